"""Viewer of the image page: slices with their own tones, heatmaps as a layer, and what stands around them."""
