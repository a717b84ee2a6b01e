"""The tests; a package, so that test support modules can be imported by name."""
