"""Notifications: changes of a running daemon's state, posted to webhooks, and a ping while it is well."""
