"""`minist predict`: ask a running service about pictures, or the rows of a table."""

import argparse
import base64
import csv
import glob
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from app.cli.explained import counted
from minist_client import Client, ClientError, Number, Prediction, Problem, ServiceError, UnusableInput
from minist_client.pictures import ANY, media_type
from minist_client.tables import WHOLE, is_table_file
from models.arguments import Parser

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif")
T = TypeVar("T")
AT_ONCE = 100  # pictures whose answers come together
RETRIES = 2  # the user waits


@dataclass(frozen=True)
class Line:
    """What is asked about, and the answer."""

    name: str
    answer: Prediction | Number | Problem


def run(words: Sequence[str]) -> int:
    """Show an answer for each; 1 where any failed."""
    chosen = _parser().parse_args(words)
    show = _show_json if chosen.json else _show_table
    try:
        with Client(chosen.url, retries=RETRIES) as client, TemporaryDirectory() as folder:
            return show(_lines(client, chosen, Path(folder)))
    except (ClientError, OSError, csv.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> Parser:
    parser = Parser(
        prog="minist predict",
        description="Classify pictures, or the rows of CSV files, by a running service.",
        epilog="MINIST_URL and MINIST_API_KEY say which service and by which key. "
        "The status is 1 where any could not be classified.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, folders of them, patterns, CSV files, - for the input",
    )
    parser.add_argument("--model", help="NAME, NAME@VERSION or NAME@ALIAS (default: the service's)")
    parser.add_argument("--url", help="of the service (default: MINIST_URL, else http://127.0.0.1:8000)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each, instead of a table")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="what counted: columns of a row, parts of a picture; with --json what it saw and a map, too",
    )
    parser.add_argument(
        "--read",
        choices=("digit", "number"),
        default="digit",
        help="number: all digits of each picture, line by line (default: digit)",
    )
    return parser


# -- what is asked ----------------------------------------------------------------------------------


def _lines(client: Client, chosen: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """The answers in order. Raises ClientError where the service does not answer at all."""
    waiting: list[Path] = []
    for path in _paths(chosen.files, folder):
        if is_table_file(path):
            yield from _pictures(client, chosen, waiting)
            waiting = []
            yield from _rows(client, chosen, path)
        else:
            waiting.append(path)
            if len(waiting) == AT_ONCE or chosen.explain or chosen.read == "number":
                yield from _pictures(client, chosen, waiting)
                waiting = []
    yield from _pictures(client, chosen, waiting)


def _paths(names: Sequence[str], folder: Path) -> Iterator[Path]:
    """The files that are meant; the standard input becomes one in `folder`."""
    for name in names:
        path = Path(name)
        if name == "-":
            yield _from_input(folder)
        elif path.is_dir():
            yield from _in_folder(path)
        elif not path.exists() and (found := sorted(glob.glob(name, recursive=True))):  # noqa: PTH207 - absolute, too
            yield from map(Path, found)
        else:
            yield path


def _in_folder(path: Path) -> Iterator[Path]:
    found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURES]
    if not found:
        raise UnusableInput(f"there is no picture in {path}")
    yield from found


def _from_input(folder: Path) -> Path:
    data = sys.stdin.buffer.read()
    is_text = media_type(data) == ANY and b"\0" not in data and b"\n" in data
    path = folder / ("-.csv" if is_text else "-")
    path.write_bytes(data)
    return path


def _pictures(client: Client, chosen: argparse.Namespace, paths: Sequence[Path]) -> Iterator[Line]:
    answers: Sequence[Prediction | Number | Problem]
    if chosen.read == "number":
        answers = [_one(partial(client.read_number, path, chosen.model)) for path in paths]
    elif chosen.explain:
        answers = [_explained(client, chosen, path) for path in paths]
    else:
        answers = client.predict_batch(paths, chosen.model)
    yield from (Line(_name(path), answer) for path, answer in zip(paths, answers, strict=True))


def _explained(client: Client, chosen: argparse.Namespace, picture: object) -> Prediction | Problem:
    return _one(partial(client.predict, picture, chosen.model, explain=True))


def _one(ask: Callable[[], T]) -> T | Problem:
    """The answer, or why this one has none."""
    try:
        return ask()
    except ServiceError as error:
        if error.status != 422:
            raise
        return error.problem
    except OSError as error:
        return Problem("Unreadable file", detail=str(error))


def _rows(client: Client, chosen: argparse.Namespace, path: Path) -> Iterator[Line]:
    if not chosen.explain:
        answers = iter(client.predict_batch(path, chosen.model))
    else:
        answers = (_explained(client, chosen, row) for row in _read_rows(path))
    for number, answer in enumerate(answers, 1):
        yield Line(f"{_name(path)}:{number}", answer)


def _read_rows(path: Path) -> Iterator[dict[str, str]]:
    if path.suffix.lower() in WHOLE:
        raise UnusableInput(f"{path}: --explain reads rows from CSV: write it as CSV first")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        head = "".join(islice(stream, 5))
        separator = max(",;\t|", key=head.count)
        stream.seek(0)
        yield from csv.DictReader(stream, delimiter=separator, strict=True)


def _name(path: Path) -> str:
    return "-" if path.name in ("-", "-.csv") else str(path)


# -- what is shown ----------------------------------------------------------------------------------


def _show_json(lines: Iterator[Line]) -> int:
    status = 0
    for line in lines:
        if isinstance(line.answer, Problem):
            found: dict[str, object] = {"file": line.name, "problem": asdict(line.answer)}
            status = 1
        else:
            given = {name: value for name, value in asdict(line.answer).items() if value is not None}
            found = {"file": line.name, **{name: _plain(value) for name, value in given.items()}}
        print(json.dumps(found, ensure_ascii=False), flush=True)
    return status


def _plain(value: object) -> object:
    return f"data:image/png;base64,{base64.b64encode(value).decode()}" if isinstance(value, bytes) else value


def _show_table(lines: Iterator[Line]) -> int:
    from rich.console import Console
    from rich.table import Table

    found = list(lines)
    explained = any(isinstance(line.answer, Prediction) and counted(line.answer) for line in found)
    columns = ("file", "label", "probability", "second best", *(("counts most",) if explained else ()))
    table = Table(*columns, box=None, header_style="bold")
    for line in found:
        table.add_row(*_cells(line)[: len(columns)])
    console = Console()
    console.width = console.width if console.is_terminal else 1_000_000  # a pipe breaks no lines
    console.print(table)
    failed = [line for line in found if isinstance(line.answer, Problem)]
    for line in found:
        if isinstance(line.answer, Prediction) and line.answer.warning is not None:
            print(f"warning: {line.name}: {line.answer.warning.get('detail')}", file=sys.stderr)
    for line in failed:
        print(f"error: {line.name}: {line.answer}", file=sys.stderr)
    return 1 if failed else 0


def _cells(line: Line) -> tuple[str, ...]:
    from rich.markup import escape

    if isinstance(line.answer, Problem):
        return escape(line.name), "[red]failed[/red]", "", "", ""
    if isinstance(line.answer, Number):
        shown = escape(line.answer.number.replace("\n", " / "))
        return escape(line.name), shown, f"{line.answer.probability:.4f}", "", ""
    _, *others = line.answer.ranked
    second = f"{others[0][0]} {others[0][1]:.4f}" if others else ""
    name, label = escape(line.name), escape(line.answer.label)
    return name, label, f"{line.answer.probability:.4f}", escape(second), escape(counted(line.answer))
