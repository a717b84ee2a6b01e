"""Loggers: a run's curves and pictures for TensorBoard, MLflow and Weights & Biases."""
