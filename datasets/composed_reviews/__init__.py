"""The composed_reviews dataset: short reviews whose praise and blame are other words in every split."""
