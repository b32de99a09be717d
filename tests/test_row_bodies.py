"""Rows of a table as people send them: JSON, CSV, Arrow, parquet, forms; what is refused, by row and column."""

import csv
import io
import json
import random
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import EmptyBody, MalformedForm, RequestError, WrongContentType, WrongRow, WrongTable
from app.serving.decoding import arrow
from app.serving.decoding.tables import (
    ARROW,
    ARROW_CHARACTERS,
    ARROW_FILE,
    CSV,
    JSON,
    MAX_CELL,
    MAX_ROWS,
    MAX_TOLD,
    PARQUET,
    URL_ENCODED,
    TableRows,
    is_plain,
    many_rows,
    one_row,
)
from models.tables import encode_row
from tests.people import ROW, SPEC, WIDE, counts

NUMBERS = encode_row(SPEC, ROW).tolist()
OTHER = {**ROW, "age": 20, "work": "astronaut", "smokes": "yes", "since": None}
LINE = {**ROW, "smokes": "no"}


def one(body: object, kind: str = JSON) -> list[float]:
    return one_row(SPEC, kind, _bytes(body)).values[0].tolist()


def many(body: object, kind: str = JSON) -> TableRows:
    return many_rows(SPEC, kind, _bytes(body))


def _bytes(body: object) -> bytes:
    return (
        body
        if isinstance(body, bytes)
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body).encode()
    )


def as_csv(rows: list[dict[str, Any]], separator: str = ",") -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


def parquet(found: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(found, stream, **options)
    return stream.getvalue()


def ipc(found: pa.Table, file: bool = False) -> bytes:
    stream = io.BytesIO()
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(stream, found.schema) as writer:
        writer.write_table(found)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, json.dumps(ROW)),
        ("", "\n " + json.dumps(ROW)),
        (URL_ENCODED, json.dumps(ROW)),  # what curl -d says
        (JSON, json.dumps({**ROW, "id": 7, "club": "chess"})),  # columns of the training file
        (URL_ENCODED, "age=39&weight%2C+kg=72%2C5&work=state&smokes=no&since=31.12.1999"),
        (CSV, as_csv([LINE])),
        ("", as_csv([LINE], ";")),
        ("text/tab-separated-values; charset=utf-8", as_csv([LINE], "\t")),
        ("application/octet-stream", b"\xef\xbb\xbf" + as_csv([LINE], "|").encode()),
        (CSV, as_csv([LINE]).replace("\r\n", "\n").rstrip()),
        (PARQUET, parquet(table([LINE]))),
        ("", ipc(table([LINE]))),
    ],
)
def test_a_row_is_the_same_however_it_is_sent(kind: str, body: str | bytes) -> None:
    assert one(body, kind) == NUMBERS


def form(**fields: object) -> bytes:
    parts = (
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{cell}\r\n'
        for name, cell in fields.items()
    )
    return ("".join(parts) + "--x--\r\n").encode()


FORM_TYPE = "multipart/form-data; boundary=x"


def test_a_form_has_a_field_for_each_column_or_a_file() -> None:
    assert one(form(**LINE), FORM_TYPE) == NUMBERS
    assert one(form(file=as_csv([LINE])), FORM_TYPE) == NUMBERS
    assert many(form(file=as_csv([LINE] * 3)), FORM_TYPE).values.tolist() == [NUMBERS] * 3
    with pytest.raises(WrongTable, match="2 fields"):
        many(form(a="1", b="2"), FORM_TYPE)
    with pytest.raises(MalformedForm):
        many(b"--y", FORM_TYPE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"agee": 3}, "there is no column 'agee'"),
        ({"age": "old"}, "column 'age' holds 'old', where a number is expected"),
        ({"age": [1]}, "column 'age' holds a list, where a number is expected"),
        ({"age": {"b": 1}}, "column 'age' holds a dict"),
        ({"age": 10**400}, "a very large number"),
        (
            {"since": "1999-12-31"},
            "column 'since' holds '1999-12-31', where a date of the form %d.%m.%Y is expected",
        ),
        ({"smokes": "often"}, "column 'smokes' holds 'often', where one of no, yes is expected"),
        ({"work": [1]}, "column 'work' holds a list"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_by_column_and_in_a_batch_by_row(
    change: dict[str, object], said: str
) -> None:
    wrong = {**ROW, **change}
    with pytest.raises(WrongRow) as refused:
        one(wrong)
    assert said in refused.value.detail
    found = many([ROW, wrong, OTHER])
    assert found.values.tolist()[0] == NUMBERS
    assert (len(found.values), found.count, list(found.problems)) == (2, 3, [1])
    assert found.problems[1].detail.startswith("row 2: ")
    assert said in found.problems[1].detail


def test_a_column_that_is_missing_is_named_and_one_that_is_nearly_right() -> None:
    short = {name: cell for name, cell in ROW.items() if name != "work"}
    with pytest.raises(WrongRow, match="column 'work' is missing"):
        one(short)
    with pytest.raises(WrongRow) as refused:
        one({**short, "wrok": "state"})
    assert refused.value.hint == "did you mean 'work'?"
    for body, kind in ((as_csv([{**short, "smokes": "no"}]), CSV), (parquet(table([short])), PARQUET)):
        with pytest.raises(WrongRow, match="column 'work' is missing"):
            many(body, kind)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, json.dumps([ROW, OTHER])),
        (
            JSON,
            json.dumps(
                {"columns": list(ROW), "data": [list(ROW.values()), list(OTHER.values())], "index": [0, 1]}
            ),
        ),
        (CSV, as_csv([{**LINE, "club": "chess"}, {**OTHER, "club": ""}])),
        (CSV, as_csv([LINE, OTHER]).replace("astronaut", "astro\u00e4naut").encode("cp1252")),
        (PARQUET, parquet(table([LINE, OTHER]), compression="zstd")),
        (ARROW, ipc(table([LINE, OTHER]))),
        (ARROW_FILE, ipc(table([LINE, OTHER]), file=True)),
    ],
)
def test_rows_come_in_order(kind: str, body: str | bytes) -> None:
    found = many(body, kind)
    np.testing.assert_array_equal(found.values, [encode_row(SPEC, ROW), encode_row(SPEC, OTHER)])
    assert not found.problems


def test_arrow_brings_types_of_its_own() -> None:
    found = pa.table(
        {
            "age": pa.array([39, None], pa.int8()),
            "weight, kg": pa.array([Decimal("72.5"), None], pa.decimal128(5, 2)),
            "work": pa.array(["state", None]).dictionary_encode(),
            "smokes": pa.array([False, None]),
            "since": pa.array([date(1999, 12, 31), None]),
            "id": pa.array([[1], [2]]),
        }
    )
    for body in (ipc(found), parquet(found)):
        rows = many(body, "").values
        assert rows[0].tolist() == NUMBERS
        assert np.isnan(rows[1]).all()
    nested = found.set_column(0, "age", pa.array([[1], [2]]))
    with pytest.raises(WrongTable, match="'age' holds list"):
        many(ipc(nested), "")
    nanoseconds = found.set_column(4, "since", pa.array([946_598_400_123_456_789] * 2, pa.timestamp("ns")))
    assert many(ipc(nanoseconds), "").values[0, 4:7].tolist() == [1999, 12, 31]


def test_what_pyarrow_reads_is_known_before_anything_is_read() -> None:
    """It is left to the decoders, also where it calls itself a form."""
    for body in (parquet(table([LINE])), ipc(table([LINE])), ipc(table([LINE]), file=True)):
        assert not is_plain("", body)
        assert not is_plain(FORM_TYPE, form(file="?").replace(b"?", body))
    assert not is_plain("application/x-parquet; a=b", b"{}")
    assert is_plain(JSON, json.dumps(ROW).encode())
    assert is_plain(CSV, as_csv([LINE]).encode())


def test_lines_that_are_too_short_or_too_long_are_problems_in_their_places() -> None:
    lines = as_csv([LINE] * 4).splitlines()
    lines[2] += ",1"
    lines[3] = "39,72"
    found = many("\n".join([*lines, "", ""]), CSV)
    assert (found.count, len(found.values)) == (4, 2)
    assert [found.problems[row].detail for row in (1, 2)] == [
        "row 2: it has 6 cells, there are 5 columns",
        "row 3: it has 2 cells, there are 5 columns",
    ]


def test_of_a_large_file_the_fast_way_and_the_slow_way_say_the_same() -> None:
    numbers = counts(1500)
    header = "id," + ",".join(column.name for column in WIDE.columns)
    lines = [f"{row}," + ",".join(map(str, cells)) for row, cells in enumerate(numbers)]
    text = "\n".join([header, *lines])
    assert len(text) > ARROW_CHARACTERS
    names = header.split(",")
    assert arrow.read_plain_csv(text, names, ",", WIDE) is not None
    assert np.array_equal(many_rows(WIDE, CSV, text.encode()).values, numbers)
    cells = lines[7].split(",")
    lines[7] = ",".join([cells[0], " NA ", '"2"', "inf", *cells[4:]])
    lines[9] = ",".join([*lines[9].split(",")[:-1], ""])
    found = many_rows(WIDE, CSV, "\n".join([header, *lines]).encode())
    assert list(found.problems) == [7]
    assert "'feat_3' holds 'inf'" in found.problems[7].detail
    assert np.isnan(found.values[8]).tolist() == [False] * 92 + [True]


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "[{}",
        "nonsense",
        "[1, 2",
        '"text"',
        "3",
        "null",
        "[]",
        '[{"age": Infinity}]',
        '[{"age": 1, "age": 2}]',
        '{"columns": ["age"], "data": 3}',
        '{"columns": 3, "data": []}',
        '{"columns": [3], "data": [[1]]}',
        '{"columns": ["age", "age"], "data": [[1, 1]]}',
        '[{"age": ' + "9" * 5_000 + "}]",
        b"\xff\xfe[",
    ],
)
def test_hostile_json_is_refused(body: str | bytes) -> None:
    with pytest.raises(WrongTable):
        many(body)
    with pytest.raises(RequestError):
        one(body)


def test_a_name_that_comes_twice_is_found_though_texts_have_colons() -> None:
    text = json.dumps([{**ROW, "work": "a:b:c"}])
    assert many(text).count == 1
    with pytest.raises(WrongTable, match="'work' twice"):
        many(text[:-2] + ', "work": "state"}]')


def test_nan_is_missing_and_lone_surrogates_are_a_category_not_seen() -> None:
    found = many('[{"age": NaN, "weight, kg": 1, "work": "\\ud800", "smokes": null, "since": ""}]')
    assert np.isnan(found.values[0]).tolist() == [True, False, False, True] + [True] * 5
    assert found.values[0, 2] == 3
    strange = many([{**ROW, "\ud800": 1}]).problems[0]
    assert json.dumps(strange.detail)


def test_rows_that_are_no_objects_or_lists_are_problems() -> None:
    found = many([ROW, 3, None, [1], "x", {}])
    assert list(found.problems) == [1, 2, 3, 4, 5]
    assert "it is null" in found.problems[2].detail
    lists = many({"columns": list(ROW), "data": [list(ROW.values()), 3, []]})
    assert list(lists.problems) == [1, 2]


def test_so_many_rows_and_no_more() -> None:
    with pytest.raises(WrongTable, match="more than 100,000 rows"):
        many(b"[" + b"0," * MAX_ROWS + b"0]")
    with pytest.raises(WrongTable, match="more than 100,000 rows"):
        many(as_csv([LINE]).splitlines()[0] + "\n" + "1\n" * (MAX_ROWS + 1), CSV)
    long = pa.table({name: pa.array([None] * (MAX_ROWS + 1), pa.string()) for name in ROW})
    for body in (parquet(long), ipc(long)):
        with pytest.raises(WrongTable, match="more than 100,000 rows"):
            many(body, "")


def test_of_very_many_problems_the_first_are_described() -> None:
    found = many([{**ROW, "age": "x"}] * (MAX_TOLD + 500))
    assert len(found.problems) == found.count == MAX_TOLD + 500
    assert "row 1000: column 'age'" in found.problems[MAX_TOLD - 1].detail
    assert found.problems[MAX_TOLD] is found.problems[MAX_TOLD + 499]


@pytest.mark.parametrize(
    "body",
    [
        "a,b,c\n1,2,3",
        "\n\n\n",
        '"' + "x" * (2 * MAX_CELL),
        as_csv([LINE]) + '"' + "x" * (2 * MAX_CELL),
        ",".join(f"c{i}" for i in range(100_000)),
        as_csv([LINE]).splitlines()[0],
        "\x00" * 1000,
        "age" + "," * 1_000_000,
    ],
)
def test_csv_that_is_no_table_of_the_model_is_refused(body: str) -> None:
    with pytest.raises((WrongTable, WrongRow)):
        many(body, CSV)


def test_damaged_arrow_and_parquet_are_refused() -> None:
    """Every prefix, and bytes changed at random; a crash would only end a decoder, but none is known here."""
    draws = random.Random(0)
    for whole in (parquet(table([LINE])), ipc(table([LINE])), ipc(table([LINE]), file=True)):
        for _ in range(150):
            damaged = bytearray(whole[: draws.randrange(8, len(whole) + 1)])
            for _ in range(3):
                damaged[draws.randrange(8, len(damaged)) if len(damaged) > 8 else 0] = draws.randrange(256)
            with suppress(WrongTable, WrongRow, WrongContentType):
                many(bytes(damaged), "")


def test_pictures_and_nothing_are_refused() -> None:
    for kind, body in (("image/png", b"\x89PNG"), ("", b"\x89PNG\r\n"), ("application/x-npy", b"\x93NUMPY")):
        for read in (one, many):
            with pytest.raises(WrongContentType, match="takes the rows of a table"):
                read(body, kind)
        with pytest.raises(EmptyBody):
            one(b"", kind)


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=300), kind=st.sampled_from([JSON, CSV, PARQUET, ARROW, "", URL_ENCODED, FORM_TYPE])
)
def test_whatever_comes_is_read_or_refused(body: bytes, kind: str) -> None:
    for read in (one, many):
        with suppress(RequestError):
            read(body, kind)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(row=st.fixed_dictionaries(dict.fromkeys(ROW, VALUES)))
def test_a_row_alone_and_in_a_batch_is_read_alike(row: dict[str, object]) -> None:
    body = json.dumps(row).replace("Infinity", "1e999")
    found = many(f"[{body}]")
    if not found.problems:
        np.testing.assert_array_equal(found.values[0], np.array(one(body), np.float32))
        return
    with pytest.raises(WrongRow) as refused:
        one(body)
    assert found.problems[0].detail == f"row 1: {refused.value.detail}"
