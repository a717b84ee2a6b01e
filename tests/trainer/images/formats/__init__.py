"""Tests of trainer/images/formats/."""
