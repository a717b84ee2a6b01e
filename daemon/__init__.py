"""Images in, rows out: inbox, lanes, engines, the service, and every `bt-daemon` command."""
