"""Networks for texts: encoders, decoders, what cuts texts into tokens, and the weights they start from."""
