"""Lesions in training pictures: drawn, pasted, healed, and the mix of these in a batch."""
