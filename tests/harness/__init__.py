"""Harnesses: long runs by hand that break things on purpose and count what is left."""
