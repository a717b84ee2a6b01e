"""What a model is (spec, preprocessing, weights) and how one is made and judged.

The ground floor never imports torch: `spec`, `weights`, `preprocess`, `picture`, `judgement`.
The upper floor (networks, data, training, evaluation) does, inside the command that needs it.
"""
