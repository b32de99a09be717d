"""Synthetic images of digits, and the development set made from them."""
