"""Run folders: their configuration, what they hold, and how several compare."""
