"""Settings, and what every layer stands on. Imports nothing of ours."""
