"""Moments as people and JSON see them."""

from datetime import UTC, datetime


def utc(seconds: float) -> datetime:
    """A moment in seconds since the epoch, as the database holds it."""
    return datetime.fromtimestamp(seconds, UTC)
