"""digits_in_photos dataset."""
