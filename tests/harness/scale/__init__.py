"""Harness for many machines: network namespaces as hosts, a real daemon, lanes that sleep, troubles."""
