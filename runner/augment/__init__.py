"""Random views of pictures, masks and boxes."""
