"""The project's benchmark: the daemon beside its peers, in one run, as ratios.

python -m tests.benchmark
"""
