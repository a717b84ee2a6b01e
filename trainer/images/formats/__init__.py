"""File formats: decoders, and what tells one format from another, by content."""
