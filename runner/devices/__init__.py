"""What a training runs on: the strategy, the precision, several workers and replicas."""
