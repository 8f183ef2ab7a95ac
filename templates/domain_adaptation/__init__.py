"""Domain adaptation: labelled pictures of one domain, unlabelled ones of another, the same classes."""
