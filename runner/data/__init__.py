"""What is true of examples of any kind: splits, checks, the sealed test, batches."""
