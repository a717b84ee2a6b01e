"""Tests of daemon/workers/."""
