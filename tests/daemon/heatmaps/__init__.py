"""Tests of daemon/heatmaps/."""
