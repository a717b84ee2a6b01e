"""What is different where training pictures are in colour."""
