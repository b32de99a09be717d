"""Rows below their headings, for a terminal."""

from collections.abc import Sequence


def columns(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Each column as wide as its widest cell; numbers to the right."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *texts, strict=True)]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        fitted = zip(cells, widths, right, strict=True)
        return "  ".join(f"{cell:>{width}}" if at else f"{cell:{width}}" for cell, width, at in fitted).rstrip()

    return "\n".join([line(list(heads)), *map(line, texts)])
