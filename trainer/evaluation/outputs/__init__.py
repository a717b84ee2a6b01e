"""What `bt-train eval` writes beside its table: a list of scores, curves, and how models compare."""
