"""Queries: read-only questions to the database."""
