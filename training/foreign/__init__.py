"""Weights that were trained elsewhere: their layers are told from names and shapes, and tried on pictures."""
