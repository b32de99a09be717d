"""Command lines that suggest what may have been meant."""

import argparse
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import NoReturn

_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints name the nearest option or choice; so do its actions' parsers."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message, and exit with 2."""
        near = self._nearest(message)
        super().error(f"{message}: did you mean {near!r}?" if near else message)

    def _nearest(self, message: str) -> str | None:
        if found := _CHOICE.search(message):
            return nearest(found[1], re.findall(r"[\w.-]+", found[2]))
        if message.startswith("unrecognized arguments: "):
            flags = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            return next(filter(None, (nearest(flag, list(self._flags())) for flag in flags)), None)
        return None

    def _flags(self) -> Iterator[str]:
        """Of this parser, and of those of its actions."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._flags()
            yield from action.option_strings


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that is most like one that is not known; None where none is."""
    return next(iter(get_close_matches(word[:64].lower(), known, n=1)), None)
