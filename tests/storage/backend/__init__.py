"""Tests of storage.backend."""
