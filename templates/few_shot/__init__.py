"""Few-shot learning: new classes of pictures from a handful of examples each, by a network trained on others."""
