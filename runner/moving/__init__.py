"""Which weights move, how fast, and the proof of what moved."""
