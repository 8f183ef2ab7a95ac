"""The life of a run, told once, and what is done with finished ones."""
