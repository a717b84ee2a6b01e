"""Tests of daemon/foreign/."""
