"""The pages that are too long for the README, and the command that makes its pictures."""
