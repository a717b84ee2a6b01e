"""Maintenance: check, back up, restore and prune a database."""
