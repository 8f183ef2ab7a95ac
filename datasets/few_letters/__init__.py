"""The few_letters dataset: the first pictures of letters_in_photos."""
