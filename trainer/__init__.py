"""Models: reading images, the spec and weights file, networks, training and evaluation.

The ground floor never imports torch: `spec`, `weights`, `preprocess`, `picture`, `judgement`.
The upper floor (networks, data, training, evaluation) does, inside the command that needs it.
"""
