"""Continual learning: one task after another, what is forgotten on the way, and what forgets least."""
