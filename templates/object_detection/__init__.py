"""Object detection: a box and a class for each object, from a pretrained backbone, in stages."""
