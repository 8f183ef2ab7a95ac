"""Semantic segmentation: a class for every pixel, from a pretrained backbone, in stages."""
