"""Which treatment for whom: the effect of a treatment row by row, with a representation from a larger trial."""
