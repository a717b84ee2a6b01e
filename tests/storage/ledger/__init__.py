"""Tests of storage/ledger/."""
