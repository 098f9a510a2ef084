"""Classification of images by labelled training images."""
