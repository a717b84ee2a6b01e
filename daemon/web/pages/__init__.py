"""Page templates, their static files and the charts drawn into them."""
