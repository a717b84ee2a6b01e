"""Reviews over the web: who is asked what, and how answers come in."""
