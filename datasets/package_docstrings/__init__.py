"""The docstrings of a package that is installed."""
