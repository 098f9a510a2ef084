"""Training data: pairs of images and captions, their views, and batches that a step and a seed decide."""
