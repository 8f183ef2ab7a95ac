"""The composed_notes dataset: short texts with animals, cities, food and persons, others in every split."""
