"""Training data: files, groups, splits, augmentation, drawn examples."""
