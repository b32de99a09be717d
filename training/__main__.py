"""The entry of `python -m training`: see `app.cli`."""

import sys
from collections.abc import Sequence

from app import cli
from app.interpreter import forget_working_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; options without a command train."""
    return cli.main(arguments, default=["train"])


if __name__ == "__main__":
    forget_working_directory()
    sys.exit(main())
