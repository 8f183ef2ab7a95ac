"""The page and the card about a run."""
