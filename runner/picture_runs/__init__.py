"""What is done with finished runs on pictures: new files, domain shift, exports."""
