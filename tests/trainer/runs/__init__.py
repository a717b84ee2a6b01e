"""Tests of trainer/runs/."""
