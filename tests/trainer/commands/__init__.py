"""Tests of trainer/commands/."""
