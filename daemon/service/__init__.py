"""The service: the daemon's one loop, how it is composed, and what goes with it."""
