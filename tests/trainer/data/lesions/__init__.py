"""Tests of trainer/data/lesions/."""
