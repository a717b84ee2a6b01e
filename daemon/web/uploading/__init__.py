"""Files from browsers into an inbox: whole, within limits, over nothing."""
