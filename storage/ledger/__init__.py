"""The ledger: what was seen and what became of it, written by one daemon."""
