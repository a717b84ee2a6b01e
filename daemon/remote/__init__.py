"""Workers on other machines: the head's side, the node's side, and what they say to each other."""
