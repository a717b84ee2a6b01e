"""Files for who runs the daemon: alert rules, a dashboard, a compose file, and the way to write them out."""
