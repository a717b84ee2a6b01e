"""Images: bytes to grey slices; imports no torch."""
