"""Architectures of open_clip that can be trained, beside our own small family."""
