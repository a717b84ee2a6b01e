"""Models: reading images, the spec and weights file, networks, training and evaluation.

`images` and `model` never import torch; networks, data, evaluation and training do, and the daemon reaches
them only for what needs torch.
"""
