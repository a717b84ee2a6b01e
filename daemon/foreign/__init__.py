"""Networks that were not trained here: ONNX files and what a description file says of them."""
