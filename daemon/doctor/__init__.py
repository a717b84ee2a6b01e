"""Doctor: the checks behind `bt-daemon doctor`."""
