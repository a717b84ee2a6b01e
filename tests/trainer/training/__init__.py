"""Tests of trainer/training/."""
