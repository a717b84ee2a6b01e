"""Training: configuration, loop, checkpoints, runs and cross-validation."""
