"""Self-supervised learning: from pictures without labels to a backbone that needs few of them."""
