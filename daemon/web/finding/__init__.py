"""Finding results: search, facets, downloads, and the tiles of the first page."""
