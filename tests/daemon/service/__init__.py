"""Tests of daemon/service/."""
