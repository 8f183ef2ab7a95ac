"""Numbers from tables of predictions; nothing here knows TensorFlow."""
