"""Texts with labels: found, checked, tokenised and into batches."""
