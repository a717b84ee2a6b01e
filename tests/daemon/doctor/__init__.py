"""Tests of daemon/doctor/."""
