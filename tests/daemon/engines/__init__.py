"""Tests of daemon/engines/."""
