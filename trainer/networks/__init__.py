"""Networks: the registry of architectures, and what is done to their numbers."""
