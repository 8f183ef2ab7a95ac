"""Few-shot learning: new classes of pictures from a few examples each, by a network trained on others."""
