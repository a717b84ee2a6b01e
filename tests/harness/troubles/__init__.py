"""Troubles that a machine makes, done to a running daemon one by one."""
