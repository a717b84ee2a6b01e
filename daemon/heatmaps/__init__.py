"""Heatmaps and thumbnails: overlays, the files of `--heatmaps`, and pictures drawn on demand."""
