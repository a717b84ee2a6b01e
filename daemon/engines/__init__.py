"""Engines: one compiled or eager network behind one interface, made, checked and cached."""
