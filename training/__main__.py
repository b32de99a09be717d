"""The entry of `python -m training`: see `app.cli`."""

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; options without a command train."""
    from app import cli  # here: `app` is ours only after the lines below

    return cli.main(arguments, default=["train"])


if __name__ == "__main__":
    # As in app.interpreter: `python -m` has put the working directory first.
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
        del sys.path[0]
    sys.exit(main())
