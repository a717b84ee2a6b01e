"""Views: what `results`, `status`, `show` and the page read from the database, ready to print."""
