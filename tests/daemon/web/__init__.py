"""Tests of daemon/web/."""
