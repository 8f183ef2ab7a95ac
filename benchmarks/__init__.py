"""Measured claims: each prints a table and is the source of figures in a README."""
