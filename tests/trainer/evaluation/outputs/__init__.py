"""Tests of the outputs of `bt-train eval`."""
