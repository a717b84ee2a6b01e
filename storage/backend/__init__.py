"""Backends: what differs between a database in a file (SQLite) and one on a server (PostgreSQL)."""
