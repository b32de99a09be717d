"""Endpoints: decode, ask, encode."""
