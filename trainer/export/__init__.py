"""Export of weights files to other programs' formats, checked against the network."""
