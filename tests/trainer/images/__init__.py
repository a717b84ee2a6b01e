"""Tests of trainer/images/."""
