"""Tests of trainer/networks/."""
