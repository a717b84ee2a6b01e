"""A model apart from its network: spec, weights file, preprocessing, prediction; imports no torch."""
