"""Tests of daemon/exchange/."""
