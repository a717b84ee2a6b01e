"""Tests of daemon/output/."""
