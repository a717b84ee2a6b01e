"""Images in, rows out: inbox, workers, engines, the service, and every `bt-daemon` command."""
