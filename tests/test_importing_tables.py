"""Own tables: what becomes a row, a column, a class, a split, and what is named with its reason instead."""

import codecs
import csv
import gzip
import io
import json
import resource
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.imported import TEST, TRAIN, VALIDATION, open_table, read_rows
from tests.conftest import ROOT
from training import own
from training.errors import DatasetError
from training.importing.dataset import Options, read_profile
from training.importing.importer import import_any
from training.importing.tables import dialect, files
from training.importing.tables.facts import ColumnFacts, TableDraft, TableOptions, TableProfile
from training.importing.tables.files import table_files
from training.importing.tables.importer import import_table
from training.importing.tables.reading import read_table

OWN = ROOT.parent / "shared" / "data" / "own"
COLOURS = ("red", "green", "blue")


class Imports:
    """Imports tables, each into a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def any(self, source: Path | bytes | str, **options: object) -> TableProfile | TableDraft:
        if not isinstance(source, Path):
            path = self.folder / f"source-{len(list(self.folder.iterdir()))}"
            path.write_bytes(source.encode() if isinstance(source, str) else source)
            source = path
        self.directory = self.folder / f"dataset-{len(list(self.folder.iterdir()))}"
        self.directory.mkdir()
        return import_table(source, self.directory, TableOptions(**options), lambda done, of: None)  # type: ignore[arg-type]

    def __call__(self, source: Path | bytes | str, target: str = "y", **options: object) -> TableProfile:
        found = self.any(source, target=target, **options)
        assert isinstance(found, TableProfile)
        return found

    def draft(self, source: Path | bytes | str, **options: object) -> TableDraft:
        found = self.any(source, **options)
        assert isinstance(found, TableDraft)
        return found

    @property
    def table(self) -> NDArray[np.float32]:
        return open_table(self.directory)

    @property
    def splits(self) -> NDArray[np.int8]:
        return read_rows(self.directory)[1]

    def rows(self) -> list[dict[str, str]]:
        """What is exported."""
        with (self.directory / "rows.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def imported(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


def trap(name: str) -> Path:
    path = OWN / name
    if not path.exists():
        pytest.skip(f"{path.name} is not among the shared data")
    return path


def table(rows: int = 40, **columns: Callable[[int], object]) -> str:
    """CSV of x, y and more columns."""
    made: Mapping[str, Callable[[int], object]] = {
        "x": lambda i: (i * 7919) % 1009 / 10,
        **columns,
        "y": columns.get("y", lambda i: "yes" if i % 3 else "no"),
    }
    lines = [",".join(made), *(",".join(str(make(i)) for make in made.values()) for i in range(rows))]
    return "\n".join(lines) + "\n"


def zipped(path: Path, contents: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


def column(profile: TableProfile | TableDraft, name: str) -> ColumnFacts:
    return next(column for column in profile.columns if column.name == name)


def warned(profile: TableProfile | TableDraft) -> str:
    return "\n".join(f"{warning.what}: {warning.hint}" for warning in profile.warnings)


# -- the traps ---------------------------------------------------------------------------------------


def test_bom_semicolons_decimal_commas_and_quoted_newlines(imported: Imports) -> None:
    profile = imported(trap("traps/csv_bom_semicolon_decimalcomma.csv"), "klasse")
    assert profile.classes == ("007", "042", "100")
    assert (profile.rows, profile.without_target, profile.bad_count) == (117, 3, 0)
    roles = {name: column(profile, name).role for name in ("betrag", "datum", "farbe", "land", "adresse")}
    assert roles == {
        "betrag": "numeric",
        "datum": "date",
        "farbe": "categorical",
        "land": "constant",
        "adresse": "text",
    }
    assert column(profile, "datum").date_format == "%d.%m.%Y"
    assert not any(column(profile, name).used for name in ("column-1", "kunden_id", "land", "adresse"))
    first = imported.rows()[0]
    assert first["notiz"] == 'Zeile 1; 0\nZeile "2"'
    assert imported.table[0, 0] == np.float32(0.126)
    assert column(profile, "farbe").missing > 0


def test_cp1252_and_ragged_rows_with_their_lines(imported: Imports) -> None:
    profile = imported(trap("traps/csv_cp1252_ragged.csv"), "klasse")
    assert [column.name for column in profile.columns] == ["name", "größe", "klasse"]
    assert [(bad.line, bad.reason) for bad in profile.bad_rows] == [
        (9, "it has 4 values, not 3"),
        (42, "it has 2 values, not 3"),
    ]
    assert profile.files[0].encoding == "cp1252"
    assert column(profile, "größe").used  # it numbers the rows, and nothing else is left
    assert imported.rows()[0]["name"] == "José 0"


def test_repeated_names_and_labels_that_are_nearly_the_same(imported: Imports) -> None:
    source = trap("traps/csv_dupheader_target_spaces.csv")
    profile = imported(source, "Target")
    assert [column.name for column in profile.columns] == ["x", "x (2)", "Target"]
    assert {frozenset(same) for same in profile.similar_labels} == {
        frozenset({"Yes", "yes ", " YES"}),
        frozenset({"No", "no"}),
    }
    assert len(profile.classes) == 5
    assert imported(source, "Target", merge_similar=True).classes == ("No", "Yes")
    renamed = {"yes ": "ja", " YES": "ja", "Yes": "ja", "No": "nein", "no": "nein"}
    assert imported(source, "target", rename=renamed).classes == ("ja", "nein")


@pytest.mark.parametrize(
    ("target", "reason"), [("constant_target", "'same' in every row"), ("id_like", "different in each of 30")]
)
def test_a_target_that_is_constant_or_always_different_is_refused(
    imported: Imports, target: str, reason: str
) -> None:
    with pytest.raises(DatasetError, match=reason):
        imported(trap("traps/csv_target_all_unique_or_constant.csv"), target)


def test_ids_and_constants_are_left_out_with_a_way_back(imported: Imports) -> None:
    source = trap("traps/telco-bom-idcol-constcol.csv")
    profile = imported(source, "Churn")
    assert {column.name for column in profile.columns if not column.used} == {"customerID", "Country", "Churn"}
    assert column(profile, "TotalCharges").role == "numeric"
    assert column(profile, "TotalCharges").missing == 11  # blanks
    assert column(profile, "Partner").role == "boolean"
    back = imported(source, "Churn", roles={"customerID": "categorical", "City": "leave-out"})
    assert column(back, "customerID").used
    assert not column(back, "City").used
    assert "1,000 most frequent" in warned(back)


def test_tabs_and_a_row_of_holes(imported: Imports) -> None:
    profile = imported(trap("traps/winequality-white-tab-badrow.csv"), "quality")
    assert profile.files[0].separator == "\t"
    assert (profile.rows, profile.without_target) == (4431, 1)
    assert profile.classes == ("3", "4", "5", "6", "7", "8", "9")
    with pytest.raises(DatasetError, match="Regression is not offered"):
        imported(trap("traps/winequality-white-tab-badrow.csv"), "alcohol")


def test_adult_without_names_and_with_dots_in_its_test_labels(imported: Imports, tmp_path: Path) -> None:
    source = zipped(
        tmp_path / "adult.zip",
        {
            "adult/train.csv": trap("traps/adult-train-noheader.csv").read_bytes(),
            "adult/test.csv": trap("traps/adult-test-noheader-dotlabels.csv").read_bytes(),
        },
    )
    profile = imported(source, "column-15")
    assert profile.classes == ("<=50K", "<=50K.", ">50K", ">50K.")  # not merged unless somebody says so
    assert profile.counts["<=50K."]["train"] == 0
    assert "no row to train on" in warned(profile)
    merged = imported(source, "column-15", merge_similar=True)
    assert merged.classes == ("<=50K", ">50K")
    assert merged.given_splits == ("train", "test")
    assert sum(counts["test"] for counts in merged.counts.values()) == 16_281
    assert column(merged, "column-2").examples[0] == "Private"  # without the blank after the comma
    assert column(merged, "column-2").missing == 2799


def test_adult_takes_little(imported: Imports, tmp_path: Path) -> None:
    contents = {f"{split}.csv": trap(f"adult_{split}.csv").read_bytes() for split in ("train", "test")}
    source = zipped(tmp_path / "adult.zip", contents)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    profile = imported(source, "income")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 3
    assert profile.rows == 48_842
    assert imported.table.shape == (48_842, 14)
    assert not np.isnan(imported.table[:, 0]).any()
    told = {column.name: column.association or 0 for column in profile.columns}
    assert told["relationship"] > 0.05 > told["fnlwgt"]


# -- how a file is written -----------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\x1e"), max_size=12)
# a file must look like a table: names above, and a column that tells where the values end
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    separator=st.sampled_from([",", ";", "\t", "|"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    packed=st.booleans(),
)
def test_values_survive_however_they_are_written(
    rows: Sequence[tuple[str, str]],
    separator: str,
    newline: str,
    quoting: int,
    encoding: str,
    packed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator=newline, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(("number", "first", "second"))
    writer.writerows((i, *row) for i, row in enumerate(rows))
    data = stream.getvalue().encode(encoding)
    (folder / "t.csv").write_bytes(gzip.compress(data) if packed else data)
    options = TableOptions(separator=separator, header=True)  # type: ignore[arg-type]
    with table_files(folder / "t.csv") as (file,):
        read = read_table(file, folder / "cells", options, None, lambda done, of: None)
    assert read.names == ("number", "first", "second")
    expected = [("" if i is None else str(i), *row) for i, row in enumerate(rows)]
    padded = all(cell.startswith(" ") for row in rows for cell in row if cell) and any(map(any, rows))
    if padded:  # a blank after each separator is taken for the way it is written
        expected = [(number, a.lstrip(" "), b.lstrip(" ")) for number, a, b in expected]
    assert list(zip(*read.open().to_pydict().values(), strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_a_data_set_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    imports = Imports(tmp_path_factory.mktemp("any"))
    with suppress(DatasetError):
        imports.any(data)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(imported: Imports, separator: str, newline: str) -> None:
    text = table().replace(",", separator).replace("\n", newline)
    profile = imported(text)
    assert (profile.files[0].separator, profile.rows, profile.bad_count) == (separator, 40, 0)


def test_decimal_commas_between_semicolons_and_thousands(imported: Imports) -> None:
    rows = "\n".join(f"{i},5;1.{i + 100},25;{'a' if i % 2 else 'b'}" for i in range(30))
    imported(f"x;z;y\n{rows}\n")
    assert imported.table[:2].tolist() == [[0.5, 1100.25], [1.5, 1101.25]]


def test_a_table_without_names_is_seen_also_where_all_is_text(imported: Imports) -> None:
    profile = imported("\n".join(f"{COLOURS[i % 3]},{i % 5},{'ab'[i % 2]}" for i in range(30)), "column-3")
    assert profile.rows == 30
    text = "\n".join(f"{COLOURS[i % 3]},{'ab'[i % 2]}" for i in range(30))
    assert imported(text, "column-2").rows == 30
    assert imported("colour,kind\n" + text, "kind").rows == 30
    assert imported("colour,kind\n" + text, "column-2", header=False).classes == ("a", "b", "kind")


def test_lines_above_the_table_are_left_out_and_a_first_column_may_have_no_name(imported: Imports) -> None:
    titled = imported("Report of 2024\n\n" + table())
    assert (titled.rows, [bad.line for bad in titled.bad_rows]) == (40, [1])
    lines = table().splitlines()
    as_r = "\n".join([lines[0], *(f"r{i},{line}" for i, line in enumerate(lines[1:]))])
    profile = imported(as_r)
    assert [column.name for column in profile.columns] == ["column-1", "x", "y"]
    assert (profile.rows, profile.bad_count) == (40, 0)


def test_bad_rows_are_counted_and_the_first_are_named_with_quoted_newlines_before_them(
    imported: Imports,
) -> None:
    good = "".join(f'{i},"one\ntwo",{"ab"[i % 2]}\n' for i in range(30))
    profile = imported(f"x,note,y\n{good}" + "1,2\n" * 70 + 4 * good)
    assert (profile.rows, profile.bad_count, len(profile.bad_rows)) == (150, 70, 50)
    assert profile.bad_rows[0].line == 62
    assert "is the separator right?" in warned(profile)


def test_a_quotation_mark_that_stays_open_is_told_and_can_be_taken_literally(imported: Imports) -> None:
    text = table(200).replace("\n", '\n"', 5)
    with pytest.raises(DatasetError, match="quotation mark"):
        imported(table() + '"1,yes\n2,no\n')
    assert imported(text, quoting=False).rows == 200


def test_utf16_is_read(imported: Imports) -> None:
    text = table(colour=lambda i: ("grün", "rot")[i % 2])
    profile = imported(codecs.BOM_UTF16_LE + text.encode("utf-16-le"))
    assert column(profile, "colour").examples[0] in ("grün", "rot")


def test_parquet_keeps_numbers_dates_and_missing_values(imported: Imports, tmp_path: Path) -> None:
    count = 40
    columns = {
        "whole": pa.array([None if i == 3 else i * 7919 % 97 for i in range(count)], pa.float64()),
        "flag": pa.array([i % 3 == 0 for i in range(count)]),
        "day": pa.array([18_000 + i // 2 for i in range(count)], pa.date32()),
        "colour": pa.array([COLOURS[i % 3] for i in range(count)]).dictionary_encode(),
        "many": pa.array([[i] for i in range(count)]),
        "y": pa.array(["ab"[i % 2] for i in range(count)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    profile = imported(tmp_path / "t.parquet")
    roles = {column.name: column.role for column in profile.columns}
    assert roles == {
        "whole": "numeric",
        "flag": "boolean",
        "day": "date",
        "colour": "categorical",
        "y": "target",
    }
    assert np.isnan(imported.table[3, 0])
    assert imported.table[4, 0] == 4 * 7919 % 97
    assert imported.rows()[4]["whole"] == str(4 * 7919 % 97)
    assert "lists or bytes: many" in warned(profile)


# -- what is too much -------------------------------------------------------------------------------------


def test_a_bomb_is_stopped_while_it_unpacks(imported: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE", 2_000_000)
    bomb = gzip.compress(table().encode() + b"1,yes\n" * 3_000_000)
    with pytest.raises(DatasetError, match="unpacks to more than"):
        imported(bomb)


def test_a_line_without_end_is_told(imported: Imports) -> None:
    with pytest.raises(DatasetError, match="line of more than"):
        imported("x,y\n" + "1" * 5_000_000 + ",a\n")
    with pytest.raises(DatasetError, match="line of more than"):
        imported("x,y\n1,a\n2,b\n3,a\n" + "1" * 5_000_000)


def test_too_many_columns_and_classes_are_told(imported: Imports) -> None:
    wide = ",".join(f"c{i}" for i in range(100_000)) + "\n" + ",".join(["1"] * 100_000) + "\n"
    with pytest.raises(DatasetError, match="100,000 columns"):
        imported(wide)
    with pytest.raises(DatasetError, match="1,000 classes"):
        imported(table(3000, y=lambda i: f"k{i // 2}"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\n\n\n", "empty"),
        (b"x,y\n", "no rows"),
        (b"only one column\n1\n2\n", "one column"),
        (b"a,b\n\0\0,1\n", "not text"),
        (b"%PDF-1.7", "a PDF"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PAR1 and then nothing", "parquet"),
        (b"\x1f\x8b\x08\x00 and then nothing", "damaged"),
        (gzip.compress(b"x,y\n1,a\n" * 9, mtime=0)[:-9], "damaged"),
    ],
)
def test_what_is_no_table_is_told(imported: Imports, data: bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        imported(data)


def test_long_texts_and_many_categories_are_bounded(imported: Imports) -> None:
    profile = imported(table(5000, note=lambda i: f"word {i} " * 400, many=lambda i: f"m{2 * i // 3}"))
    assert column(profile, "note").role == "text"
    assert max(map(len, column(profile, "note").examples)) <= 80
    assert not column(profile, "many").used
    back = imported(table(5000, many=lambda i: f"m{i // 2}"), roles={"many": "categorical"})
    assert len(back.input.columns[1].categories) == 1000
    assert (imported.table[:, 1] == 1000).sum() == 3000  # `other`


# -- columns -----------------------------------------------------------------------------------------


def roles(profile: TableProfile | TableDraft) -> dict[str, tuple[str, bool]]:
    return {column.name: (column.role, column.used) for column in profile.columns}


def test_every_role_is_found(imported: Imports) -> None:
    profile = imported(
        table(
            60,
            id=lambda i: i + 1,
            customer=lambda i: 10_000 + i * 7919 % 997,
            customer_id=lambda i: 10_000 + i * 7919 % 997 * 3,
            code=lambda i: f"{i % 4:03}",
            flag=lambda i: ("Yes", "no")[i // 2 % 2],
            day=lambda i: f"{1 + i % 28:02}/{1 + i % 12:02}/2023",
            moment=lambda i: f"2023-01-{1 + i % 28:02}T10:00:00",
            words=lambda i: f"a review with number {i} in it",
            nothing=lambda i: "?",
            same=lambda i: "k",
            twin=lambda i: (i * 7919) % 1009 / 10,
            holes=lambda i: "NA" if i % 2 else i * 31 % 17,
        )
    )
    assert roles(profile) == {
        "x": ("numeric", True),
        "id": ("id", False),
        "customer": ("numeric", True),
        "customer_id": ("id", False),
        "code": ("categorical", True),
        "flag": ("boolean", True),
        "day": ("date", True),
        "moment": ("date", True),
        "words": ("text", False),
        "nothing": ("constant", False),
        "same": ("constant", False),
        "twin": ("duplicate", False),
        "holes": ("numeric", True),
        "y": ("target", False),
    }
    assert column(profile, "day").date_format == "%d/%m/%Y"
    assert column(profile, "moment").date_format == "iso"
    assert column(profile, "twin").why == "it equals 'x'"
    assert column(profile, "holes").missing == 30
    assert set(profile.input.left_out) == {"id", "customer_id", "words", "nothing", "same", "twin"}


def test_roles_are_chosen_and_refused_where_the_values_do_not_fit(imported: Imports) -> None:
    text = table(code=lambda i: f"{i % 4:03}", colour=lambda i: COLOURS[i % 3])
    profile = imported(text, roles={"code": "numeric", "x": "categorical"})
    assert (column(profile, "code").role, column(profile, "x").role) == ("numeric", "categorical")
    for name, role, reason in (
        ("colour", "numeric", "does not hold numbers"),
        ("colour", "date", "no dates of one form"),
        ("colour", "boolean", "two values"),
        ("colours", "numeric", "did you mean 'colour'"),
    ):
        with pytest.raises(DatasetError, match=reason):
            imported(text, roles={name: role})
    with pytest.raises(DatasetError, match="no column is left"):
        imported(text, roles=dict.fromkeys(("x", "code", "colour"), "leave-out"))


def test_cells_of_another_kind_count_as_missing_and_are_said(imported: Imports) -> None:
    profile = imported(table(100, z=lambda i: "unknown" if i == 50 else i * 7919 % 501))
    assert column(profile, "z").role == "numeric"
    assert np.isnan(imported.table[50, 1])
    assert "1 cells of column 'z' are not a number, such as 'unknown'" in warned(profile)


def test_a_column_that_gives_the_answer_away_is_said(imported: Imports) -> None:
    profile = imported(
        table(
            300,
            after=lambda i: 5 if i % 3 else 9,
            copy=lambda i: "yes" if i % 3 else "no",
            noise=lambda i: i * 7919 % 13,
        )
    )
    assert "column 'after' gives the answer away" in warned(profile)
    assert "column 'copy' gives the answer away and was left out" in warned(profile)
    assert "noise" not in warned(profile)
    assert column(profile, "after").association == pytest.approx(1, abs=0.01)
    assert (column(profile, "noise").association or 0) < 0.05


def test_histograms_count_each_class(imported: Imports) -> None:
    profile = imported(table(300, colour=lambda i: COLOURS[i % 3], many=lambda i: f"m{i % 15}"))
    colour = column(profile, "colour").histogram
    assert colour is not None
    assert dict(zip(colour.bins, colour.counts["no"], strict=True)) == {"red": 100, "green": 0, "blue": 0}
    many = column(profile, "many").histogram
    assert many is not None
    assert many.bins[-1] == "other"
    numbers = column(profile, "x").histogram
    assert numbers is not None
    assert sum(map(sum, numbers.counts.values())) == 300
    few = imported(table(300, y=lambda i: f"class {i % 12}")).columns[0].histogram
    assert few is not None
    assert (len(few.counts), sum(few.others or ())) == (8, 100)


# -- the target -----------------------------------------------------------------------------------------


def test_without_a_target_one_is_proposed_and_nothing_is_encoded(imported: Imports) -> None:
    draft = imported.draft(table(colour=lambda i: COLOURS[i % 3], survived=lambda i: i % 2))
    assert draft.proposals[0].column == "survived"
    assert "name" in draft.proposals[0].why
    assert {proposal.column for proposal in draft.proposals} == {"survived", "y", "colour"}
    assert column(draft, "x").role == "numeric"
    assert draft.preview[0] == ("0.0", "red", "0", "no")
    assert [path.name for path in imported.directory.iterdir()] == ["profile.json"]
    assert read_profile(imported.directory) == draft


def test_a_test_table_without_the_target_says_what_it_is_and_is_left_out(
    imported: Imports, tmp_path: Path
) -> None:
    text = table(colour=lambda i: COLOURS[i % 3])
    without = "\n".join(line.rpartition(",")[0] for line in text.splitlines())
    contents = {"train.csv": text, "test.csv": without, "sample_submission.csv": "id,y\n1,yes\n"}
    source = zipped(tmp_path / "kaggle.zip", contents)
    draft = imported.draft(source)
    assert (draft.proposals[0].column, draft.proposals[0].why) == ("y", "the test table does not have it")
    profile = imported(source)
    assert (profile.rows, profile.given_splits) == (40, ())
    assert "test.csv has no column 'y' and was left out" in warned(profile)
    with pytest.raises(DatasetError, match="lacks the columns colour, y"):
        imported(zipped(tmp_path / "other.zip", {"train.csv": text, "test.csv": "x,z\n1,2\n3,4\n"}))


def test_a_target_of_many_numbers_is_asked_about(imported: Imports) -> None:
    text = table(200, y=lambda i: i % 50)
    with pytest.raises(DatasetError, match="numeric_target=classes"):
        imported(text)
    assert len(imported(text, numeric_target="classes").classes) == 50
    assert imported(table(200, y=lambda i: i % 9 + 1)).classes == tuple("123456789")


def test_a_wrong_name_of_the_target_is_told_with_what_is_near(imported: Imports) -> None:
    with pytest.raises(DatasetError, match="did you mean 'income'"):
        imported(table(income=lambda i: i % 2), "incom")


def test_rows_without_a_class_are_counted_and_none_may_be_a_class(imported: Imports) -> None:
    profile = imported(table(y=lambda i: ("", "?", "None", "some")[i % 4]))
    assert (profile.classes, profile.without_target, profile.rows) == (("None", "some"), 20, 20)


def test_classes_are_dropped_and_tiny_ones_said(imported: Imports) -> None:
    text = table(y=lambda i: "once" if i == 5 else "rare" if i < 5 else "ab"[i % 2])
    profile = imported(text)
    assert profile.counts["once"] == {"train": 1, "validation": 0, "test": 0}
    assert "class 'once' has one row" in warned(profile)
    assert "class 'rare' has 5 rows" in warned(profile)
    assert imported(text, drop=["once", "rare"]).classes == ("a", "b")
    with pytest.raises(DatasetError, match="fewer than two classes"):
        imported(table(), drop=["yes"])


# -- splits --------------------------------------------------------------------------------------------


def test_splits_are_stratified_and_never_empty(imported: Imports) -> None:
    profile = imported(table(1000, y=lambda i: "rare" if i % 50 == 0 else "usual"))
    assert profile.counts["rare"] == {"train": 14, "validation": 2, "test": 4}
    assert profile.counts["usual"] == {"train": 666, "validation": 118, "test": 196}
    small = imported(table(6))
    assert all(
        sum(counts[split] for counts in small.counts.values()) for split in ("train", "validation", "test")
    )


def test_equal_rows_stay_on_one_side(imported: Imports) -> None:
    profile = imported(table(200, x=lambda i: (i if i < 130 else i - 100) * 7919 % 1009 / 10))
    assert profile.duplicates == 70
    keys = {row.tobytes(): set[int]() for row in imported.table}
    for row, split in zip(imported.table, imported.splits, strict=True):
        keys[row.tobytes()].add(int(split))
    assert all(len(sides) == 1 for sides in keys.values())
    assert profile.conflicts > 0


def test_few_values_in_few_columns_are_no_copies(imported: Imports) -> None:
    profile = imported("x,y\n" + "".join(f"{i % 2},{'ab'[i % 2]}\n" for i in range(60)))
    assert "taken for different cases" in warned(profile)
    assert profile.counts["a"]["test"] > 0


def test_a_group_stays_on_one_side(imported: Imports) -> None:
    profile = imported(table(300, patient=lambda i: f"p{i // 6}"), group="patient")
    assert not column(profile, "patient").used
    sides: dict[str, set[str]] = {}
    for row in imported.rows():
        sides.setdefault(row["patient"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {split for splits in sides.values() for split in splits} == {"train", "validation", "test"}
    with pytest.raises(DatasetError, match="three groups at least"):
        imported(table(site=lambda i: "ab"[i % 2]), group="site")


def test_the_newest_rows_are_the_test(imported: Imports) -> None:
    text = table(100, day=lambda i: f"{1 + i % 25:02}.{1 + i // 25:02}.2023")
    imported(text, time="day")
    newest = {split: [] for split in ("train", "validation", "test")}  # type: ignore[var-annotated]
    for row in imported.rows():
        day, month, _ = row["day"].split(".")
        newest[row["split"]].append((month, day))
    assert max(newest["train"]) < min(newest["validation"])
    assert max(newest["validation"]) < min(newest["test"])
    assert len(newest["test"]) == 20
    with pytest.raises(DatasetError, match="cannot order the rows in time"):
        imported(table(colour=lambda i: COLOURS[i % 3]), time="colour")


def test_the_exported_rows_import_again_with_the_same_splits(imported: Imports) -> None:
    first = imported(table(80, note=lambda i: f'"a ""b"" \n c {i}"'))
    splits = imported.splits
    again = imported(imported.directory / "rows.csv")
    assert again.counts == first.counts
    assert np.array_equal(imported.splits, splits)
    assert again.given_splits == ("train", "validation", "test")


def test_a_validation_table_is_taken_too_and_columns_may_change_places(
    imported: Imports, tmp_path: Path
) -> None:
    text = table(30)
    turned = "\n".join(",".join(line.split(",")[::-1]) for line in text.splitlines())
    contents = {"data/train/a.csv": text, "data/val/a.csv": turned, "data/test/a.csv": text}
    profile = imported(zipped(tmp_path / "t.zip", contents))
    assert profile.given_splits == ("train", "validation", "test")
    assert np.array_equal(imported.table[:30], imported.table[30:60])
    assert "30 rows of the given test split are also in training" in warned(profile)
    assert [(imported.splits == split).sum() for split in (TRAIN, VALIDATION, TEST)] == [30, 30, 30]


def test_tables_in_a_zip_whose_part_is_not_clear_are_told(imported: Imports, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 tables \(a.csv, b.csv\)"):
        imported(zipped(tmp_path / "t.zip", {"a.csv": table(), "b.csv": table()}))
    with pytest.raises(DatasetError, match=r"add train.csv"):
        imported(zipped(tmp_path / "u.zip", {"test.csv": table()}))


# -- what is left ----------------------------------------------------------------------------------------


def test_the_same_table_has_the_same_digest_and_no_file_is_left_behind(imported: Imports) -> None:
    first = imported(table())
    assert sorted(path.name for path in imported.directory.iterdir()) == [
        "profile.json",
        "rows.csv",
        "rows.npz",
        "samples.json",
        "table.npy",
    ]
    assert imported(table()).digest == first.digest
    assert imported(table(), seed=1).digest != first.digest
    samples = json.loads((imported.directory / "samples.json").read_bytes())
    assert len(samples) == 2 * (8 + 4) + 2 * 4 or len(samples) > 12
    assert samples[0]["values"] == {"x": "0.0", "y": "no"}


def test_what_is_said_of_pictures_does_not_fit_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table())
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="size is an option of pictures"):
        import_any(tmp_path / "t.csv", tmp_path / "out", Options(size=32), lambda done, of: None)
    pictures = zipped(tmp_path / "p.zip", {"a/1.png": b"", "b/1.png": b""})
    with pytest.raises(DatasetError, match="holds no table"):
        import_any(pictures, tmp_path / "out", TableOptions(target="y"), lambda done, of: None)
    found = import_any(tmp_path / "t.csv", tmp_path / "out", Options(seed=3), lambda done, of: None)
    assert isinstance(found, TableDraft)
    assert found.options.seed == 3


def test_a_name_with_a_formula_or_markup_stays_text(imported: Imports) -> None:
    profile = imported(
        "<b>x</b>,=1+1,y\n" + "".join(f"{i * 7 % 31},{i % 4},{'ab'[i % 2]}\n" for i in range(40))
    )
    assert [column.name for column in profile.input.columns] == ["<b>x</b>", "=1+1"]


def test_a_file_of_the_command_line_becomes_a_version_once_its_target_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(table())
    with pytest.raises(DatasetError, match="--target 'y'"):
        own.import_own(tmp_path / "t.csv", tmp_path / "sets", "t", Options())
    for _ in range(2):  # the same again is the same version
        options = TableOptions(target="y")
        assert own.import_own(tmp_path / "t.csv", tmp_path / "sets", "t", options) == "t@1"
    assert [path.name for path in (tmp_path / "sets" / "t").iterdir()] == ["1"]


def test_many_columns_take_little_memory_and_a_long_row_is_read_all_the_same(imported: Imports) -> None:
    """Beside each column the parser reserves a block."""
    lines = [
        ",".join(str(i * (j + 97) * 7919 % 100_003) for j in range(1, 1500)) + f",{'ab'[i % 2]}"
        for i in range(50)
    ]
    header = ",".join(f"c{j}" for j in range(1, 1500)) + ",y"
    long = ",".join("1" * 100 for _ in range(1, 1500)) + ",a"
    pool = pa.system_memory_pool()
    profile = imported("\n".join([header, *lines]))
    assert pool.max_memory() < 1_000_000_000
    assert profile.input.width > 1000
    assert imported("\n".join([header, *lines, long])).rows == 51


def test_a_stray_carriage_return_does_no_harm(imported: Imports) -> None:
    profile = imported(table(60) + "1\r2,3,4\n5\n")
    assert profile.bad_count > 0


def test_names_are_given_where_there_are_none(tmp_path: Path) -> None:
    assert dialect._names(["a", "", "a", "a (2)"], 4) == (
        ("a", "column-2", "a (3)", "a (2)"),
        ("column-2", "a (3)"),
    )


# -- what people meet now and then ---------------------------------------------------------------------


def test_quoted_values_may_follow_padded_separators(imported: Imports) -> None:
    lines = [f'{i % 7}, "x, {i % 3}", {"pq"[i % 2]}' for i in range(60)]
    profile = imported("\n".join(["size, kind, y", *lines]).encode(), "y")
    assert column(profile, "kind").examples == ("x, 0", "x, 1", "x, 2")
    assert (profile.bad_count, profile.classes) == (0, ("p", "q"))
    with pytest.raises(DatasetError, match="opens a quotation mark in or after row 6"):
        imported("\n".join(["size, kind, y", *lines, '1, "open, p']).encode(), "y")


def test_gzipped_tables_in_a_zip_are_read(imported: Imports) -> None:
    rows = "size,y\n" + "".join(f"{i},{'pq'[i % 2]}\n" for i in range(40))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.csv.gz", gzip.compress(rows.encode()))
        archive.writestr("test.csv.gz", gzip.compress(rows.replace("\n", "0\n").encode().replace(b"y0", b"y")))
    profile = imported(packed.getvalue(), "y", merge_similar=True)
    assert (profile.rows, profile.given_splits) == (80, ("train", "test"))


def test_dates_of_several_forms_are_said_to_be_so(imported: Imports) -> None:
    days = [f"2024-0{1 + i % 9}-1{i % 9}" if i % 2 else f"1{i % 9}.0{1 + i % 9}.2023" for i in range(60)]
    rows = "day,size,y\n" + "".join(f"{day},{i % 7},{'pq'[i % 2]}\n" for i, day in enumerate(days))
    profile = imported(rows.encode(), "y")
    day = column(profile, "day")
    assert (day.used, day.role) == (False, "text")
    assert day.why is not None
    assert day.why.startswith("its dates are of several forms, such as ")
    assert sum("several forms" in warning.what for warning in profile.warnings) == 1


def test_zeros_and_ones_are_numbers_so_that_a_two_is_answered(imported: Imports) -> None:
    rows = "flag,size,y\n" + "".join(f"{i % 2},{i * 37 % 11},{'pq'[i * 7 % 3 % 2]}\n" for i in range(60))
    profile = imported(rows.encode(), "y")
    flag = next(column for column in profile.input.columns if column.name == "flag")
    assert (flag.role, flag.minimum, flag.maximum) == ("numeric", 0, 1)
    chosen = imported(rows.encode(), "y", roles={"flag": "boolean"})
    assert column(chosen, "flag").role == "boolean"


def test_labels_of_test_rows_that_differ_by_a_dot_are_said_first(imported: Imports) -> None:
    """As adult has them: unmerged, no figure on the test rows means anything."""
    train = "size,income\n" + "".join(f"{i % 17},{('<=50K', '>50K')[i % 17 > 8]}\n" for i in range(80))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("train.csv", train)
        archive.writestr("test.csv", train.replace("50K\n", "50K.\n"))
    profile = imported(packed.getvalue(), "income")
    assert profile.classes == ("<=50K", "<=50K.", ">50K", ">50K.")
    assert "are in the test rows alone" in profile.warnings[0].what
    assert "merge_similar" in profile.warnings[0].hint
