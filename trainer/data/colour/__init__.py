"""Colour training pictures: their augmentation, and telling whether images are in colour."""
