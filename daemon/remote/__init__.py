"""Workers on other machines: how they join a daemon, the head, and what both say to each other."""
