"""Which source to start from: candidates, what their frozen features say, and how far that can be trusted."""
