"""What is done with finished runs on texts."""
