"""Tests of daemon/listen/."""
