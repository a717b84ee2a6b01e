"""Tests of files that come from browsers into an inbox."""
