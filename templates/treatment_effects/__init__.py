"""Which treatment for whom: the effect of a treatment with a representation from a larger trial."""
