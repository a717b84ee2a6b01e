"""Tests of daemon/views/."""
