"""Pretrained networks: which there are, where their weights come from, how they are built and run."""
