"""The commands of bt-train, one file each."""
