"""scenes dataset."""
