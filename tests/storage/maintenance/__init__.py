"""Tests of storage/maintenance/."""
