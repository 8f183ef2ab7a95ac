"""The composed_language dataset: English sentences and what they are in an invented language."""
