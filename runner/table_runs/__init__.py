"""What is done with finished runs on tables: new rows, what each column does to the answers, exports."""
