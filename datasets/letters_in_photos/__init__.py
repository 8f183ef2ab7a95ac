"""letters_in_photos dataset."""
