"""What can be wrong with what is kept."""

import sqlite3

from sqlalchemy.exc import DBAPIError


class StoreError(Exception):
    """What is kept cannot be used as it is; the message says what to do."""


class Away(StoreError):
    """A server cannot be reached now; it may be there later."""


class DatabaseAway(Away):
    """The server of the database cannot be reached now; it may be there later."""


class ArtifactsAway(Away):
    """The object store does not do what it is asked now; it may do so later."""

    hint = "try again; the operator should look at the store that MINIST_STORE names"
    retry_after = 5  # seconds
    detail = "the store of the models and data sets does not answer"  # its address is nobody's business


def reason(error: DBAPIError) -> str:
    """Why the database did not do it: one line for logs and operators. It holds no password."""
    return " ".join(str(error.orig).split())[:300]


def is_of_home(error: DBAPIError) -> bool:
    """Whether it is the file in MINIST_HOME that does not answer, not a server."""
    return isinstance(error.orig, sqlite3.Error)


def public_reason(error: DBAPIError) -> str:
    """The same for anybody: a server's address and user names are nobody's business."""
    return reason(error) if is_of_home(error) else "the database does not answer"
