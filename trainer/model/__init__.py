"""What a model is: spec, weights file, preprocessing, prediction; imports no torch."""
