"""Synthetic images of digits: ink, scenes, a split to train on, and the development set."""
