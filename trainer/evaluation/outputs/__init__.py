"""Outputs of `bt-train eval` beside its table: a list of scores, curves, and how models compare."""
