"""Evaluation: metrics, calibration, rejection limit, plots, the model card."""
