"""The columns of a table: how cells become numbers, and what is refused."""

import math
from datetime import date, datetime

import numpy as np
import pytest
from pydantic import ValidationError

from models.card import Card, Input
from models.errors import CheckpointError, TableError
from models.tables import Column, TableInput, encode_columns, encode_row

SPEC = TableInput(
    target="income",
    columns=(
        Column(name="age", role="numeric"),
        Column(name="work", role="categorical", categories=("private", "state", "3")),
        Column(name="member", role="boolean", categories=("no", "yes")),
        Column(name="since", role="date", date_format="%d.%m.%Y"),
        Column(name="price", role="numeric", decimal=","),
    ),
    left_out=("id",),
)
ROW = {"age": 39, "work": "state", "member": True, "since": "02.01.1970", "price": "1,5"}


def encoded(**changes: object) -> list[float]:
    return [float(value) for value in encode_row(SPEC, {**ROW, **changes})]


def test_a_row_is_a_number_for_each_column_and_five_for_a_date() -> None:
    assert encoded() == [39, 1, 1, 1970, 1, 2, 4, 1, 1.5]
    assert SPEC.width == 9
    assert SPEC.starts == (0, 1, 2, 3, 8)


@pytest.mark.parametrize("cell", [None, "", " ", "?", "NA", "n/a", "-", "null", math.nan])
def test_what_is_missing_is_nan(cell: object) -> None:
    row = encode_row(SPEC, dict.fromkeys(ROW, cell))
    assert np.isnan(row).all()


@pytest.mark.parametrize(
    ("cell", "number"),
    [(" 42 ", 42), ("4e2", 400), (np.float32(0.5), 0.5), (True, 1), ("1,234,567.5", 1_234_567.5), ("-7", -7)],
)
def test_numbers_are_read_from_text(cell: object, number: float) -> None:
    assert encoded(age=cell)[0] == number


@pytest.mark.parametrize(("cell", "number"), [("1.234,5", 1234.5), ("7", 7), (2.5, 2.5), ("2.5", 2.5)])
def test_a_decimal_comma_is_the_column_s(cell: object, number: float) -> None:
    assert encoded(price=cell)[-1] == number


@pytest.mark.parametrize("cell", ["old", "inf", "1e999", 10**400, [3], {"a": 1}, "1,2,3"])
def test_text_in_a_numeric_column_is_refused_by_name(cell: object) -> None:
    with pytest.raises(TableError, match=r"column 'age' holds .* where a number is expected"):
        encoded(age=cell)


def test_categories_are_texts_and_others_are_other() -> None:
    assert encoded(work=" private ")[1] == 0
    assert encoded(work=3)[1] == encoded(work=3.0)[1] == encoded(work="3")[1] == 2
    assert encoded(work="never seen")[1] == len(SPEC.columns[1].categories)
    with pytest.raises(TableError, match="'work' holds a list"):
        encoded(work=["private"])


@pytest.mark.parametrize("cell", [True, "yes", "true", "T", 1, "1", 1.0])
def test_booleans_in_other_words(cell: object) -> None:
    assert encoded(member=cell)[2] == 1
    with pytest.raises(TableError, match="'member' holds 'perhaps', where one of no, yes is expected"):
        encoded(member="perhaps")


def test_dates_in_the_column_s_form_alone() -> None:
    for cell in (date(1970, 1, 2), datetime(1970, 1, 2), np.datetime64("1970-01-02")):
        assert encoded(since=cell) == encoded()
    with pytest.raises(TableError, match=r"'1970-01-02', where a date of the form %d\.%m\.%Y"):
        encoded(since="1970-01-02")
    assert np.isnan(encode_row(SPEC, {**ROW, "since": np.datetime64("NaT")})[3:8]).all()


def test_columns_that_are_missing_or_unknown_are_named_with_what_may_be_meant() -> None:
    without = {name: cell for name, cell in ROW.items() if name != "age"}
    with pytest.raises(TableError, match="column 'age' is missing"):
        encode_row(SPEC, without)
    with pytest.raises(TableError, match=r"no column 'agee': did you mean 'age'\?"):
        encode_row(SPEC, {**without, "agee": 3})
    assert encoded(id=7, income=">50K") == encoded()  # of the training file, not used


def test_bad_cells_of_a_table_are_problems_in_their_row() -> None:
    columns = {name: [cell] * 3 for name, cell in ROW.items()}
    columns["age"] = [1, "old", 3]
    columns["since"] = ["02.01.1970", "02.01.1970", "soon"]
    rows, problems = encode_columns(SPEC, columns)
    assert rows[:, 0].tolist()[::2] == [1, 3]
    assert [(problem.row, problem.column) for problem in problems] == [(1, "age"), (2, "since")]
    assert math.isnan(rows[1, 0])
    with pytest.raises(TableError, match="column 'price' has 2 cells and column 'age' 3"):
        encode_columns(SPEC, {**columns, "price": ["1", "2"]})


@pytest.mark.parametrize(
    "change",
    [
        {"columns": []},
        {"columns": [{"name": "a", "role": "numeric"}] * 2},
        {"columns": [{"name": "income", "role": "numeric"}]},
        {"columns": [{"name": "a", "role": "numeric", "categories": ["x"]}]},
        {"columns": [{"name": "a", "role": "categorical", "categories": ["x", "x"]}]},
        {"columns": [{"name": "a", "role": "date"}]},
        {"columns": [{"name": "a", "role": "numeric", "minimum": math.nan}]},
        {"columns": [{"name": "a", "role": "numeric", "more": 1}]},
    ],
)
def test_a_hostile_description_of_a_table_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TableInput.model_validate({"target": "income", **change})


def test_a_card_is_of_a_table_or_of_pictures() -> None:
    card = Card(name="adult", architecture="table", input=SPEC, classes=("<=50K", ">50K"))
    read = Card.model_validate_json(card.model_dump_json())
    assert read.table == SPEC
    with pytest.raises(CheckpointError, match="takes the rows of a table"):
        _ = read.picture
    picture = {
        "channels": 1,
        "height": 2,
        "width": 2,
        "mean": (0.0,),
        "std": (1.0,),
        "polarity": "light-on-dark",
    }
    of_pictures = Card(
        name="digits", architecture="cnn", input=Input.model_validate(picture), classes=("0", "1")
    )
    assert isinstance(Card.model_validate_json(of_pictures.model_dump_json()).input, Input)
    with pytest.raises(CheckpointError, match="takes pictures"):
        _ = of_pictures.table
