"""Counters, metrics and logs."""
