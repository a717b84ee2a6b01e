"""Whether this machine is fit for the work: the checks behind `bt-daemon doctor`."""
