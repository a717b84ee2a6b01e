"""Tests of colour training pictures."""
