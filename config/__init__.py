"""Which settings exist and where each value came from. Imports nothing of ours."""
