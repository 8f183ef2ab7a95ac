"""Image classification: one label per picture, from a pretrained backbone, in stages."""
