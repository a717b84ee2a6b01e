"""Tests of trainer/loggers/."""
