"""One file per `bt-daemon` command: parse, call, print. Anything slow is imported inside."""
