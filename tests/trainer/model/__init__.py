"""Tests of trainer/model/."""
