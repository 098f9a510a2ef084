"""Scenes: an endless embedded world of drawings on grounds, with captions that say as much as one asks."""
