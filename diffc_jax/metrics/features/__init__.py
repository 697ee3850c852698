"""Feature networks for Fréchet distances: images in, one vector for each image out."""
