"""Forms: what clients write is read, what no client writes is refused, and nothing takes long."""

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import EmptyBody, MalformedForm, WrongContentType, WrongFields
from app.serving.decoding.forms import MAX_HEADER_BYTES, form_files, one_image
from benchmarks.upload import BOUNDARY, FORM, form
from tests.hostile import FORM_OF_SEMICOLONS, form_of_semicolons

MANY = 100_000


def part(*headers: str, content: bytes = b"x", boundary: str = BOUNDARY) -> bytes:
    return "\r\n".join([f"--{boundary}", *headers, "", ""]).encode() + content + b"\r\n"


def closed(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def files(body: bytes, content_type: str = FORM, field: str = "file", most: int = MANY) -> list[bytes]:
    return [bytes(found) for found in form_files(content_type, body, field, most)]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8))
def test_what_goes_in_comes_out(contents: list[bytes]) -> None:
    """Whatever the bytes are: line ends and dashes too."""
    assert files(form("file", contents)) == contents


@given(st.lists(st.sampled_from([b"\r\n", b"-", b"--", b"boundary", b"a", b"\n", b"\r"]), max_size=12))
def test_what_resembles_a_boundary_is_content(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert files(closed(part('Content-Disposition: form-data; name="file"', content=content))) == [content]


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    for body in (noise, b"--" + BOUNDARY.encode() + noise, part("a: b", content=noise)):
        with suppress(MalformedForm, WrongFields, EmptyBody):
            files(body)


@pytest.mark.parametrize(
    "header",
    [
        'Content-Disposition: form-data; name="file"; filename="a;b.png"',
        'content-disposition:form-data;filename="x";name="file"',
        "CONTENT-DISPOSITION: form-data; name=file",
        "Content-Disposition: form-data; NAME=\"file\" ; filename*=UTF-8''%e2%82%ac.png",
        'Content-Disposition: form-data; filename="a \\" name=\\"other.png"; name="file"',
        'Content-Disposition: form-data; name="f\\ile"',
        'Content-Disposition: form-data; loose; name="file"',
    ],
)
def test_the_ways_in_which_clients_write_a_name(header: str) -> None:
    assert files(closed(part(header), part("Content-Type: image/png", header))) == [b"x", b"x"]


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; boundary="a b:c"', "a b:c"),
        ("Multipart/Form-Data;BOUNDARY=abc", "abc"),
        ("multipart/form-data; charset=utf-8; boundary=abc; x=y", "abc"),
    ],
)
def test_the_ways_in_which_clients_write_a_boundary(content_type: str, boundary: str) -> None:
    body = closed(part('Content-Disposition: form-data; name="file"', boundary=boundary), boundary=boundary)
    assert files(body, content_type) == [b"x"]
    assert bytes(one_image(content_type, body)) == b"x"


def test_what_stands_before_and_behind_a_form_is_left_out() -> None:
    body = closed(part('Content-Disposition: form-data; name="file"'))
    assert files(b"preamble\r\n" + body + b"epilogue") == [b"x"]


def test_blanks_behind_a_boundary_are_allowed() -> None:
    body = form("file", [b"x"]).replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b" \t\r\n")
    assert files(body) == [b"x"]


def test_other_fields_are_left_out() -> None:
    note = part('Content-Disposition: form-data; name="note"')
    assert files(closed(note, part('Content-Disposition: form-data; name="file"', content=b"y"))) == [b"y"]
    with pytest.raises(WrongFields, match="no field 'file' but 'note', ''"):
        files(closed(note, part()))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"nothing of a form", "before its last boundary"),
        (form("file", [b"x"])[:-8], "before its last boundary"),
        (
            b"--" + BOUNDARY.encode() + b"and more\r\n\r\n\r\n--" + BOUNDARY.encode() + b"--",
            "nothing should follow",
        ),
        (closed(b"--" + BOUNDARY.encode() + b"\r\nno end of headers\r\n"), "without the end of its headers"),
        (closed(part("a: " + MAX_HEADER_BYTES * "b")), "without the end of its headers"),
        (closed(part(*["a: b"] * 17)), "more than 16 headers"),
        (closed(part("content-disposition: form-data" + "; a=b" * 17)), "more than 16 parameters"),
        (form("file", [b"x"] * 17), "more than 16 parts"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedForm, match=reason):
        files(body, most=16)


def test_a_body_of_another_kind() -> None:
    assert one_image("image/png", b"x") == b"x"
    with pytest.raises(EmptyBody):
        one_image("image/png", b"")
    with pytest.raises(EmptyBody):
        one_image(FORM, b"")
    with pytest.raises(WrongContentType):
        one_image("text/plain", b"x")
    with pytest.raises(MalformedForm, match="no boundary"):
        one_image("multipart/form-data", b"x")
    with pytest.raises(MalformedForm, match="no boundary"):
        one_image("multipart/form-data; boundary=" + "x" * 300, b"x")


@pytest.mark.parametrize(
    "body",
    [
        form_of_semicolons(*FORM_OF_SEMICOLONS),
        form_of_semicolons(3_500, 1_000_000 // 3_500),
        closed(*[part('content-disposition: form-data; name="' + 'x="' * 1_300)] * 3_000),
        closed(*[part("content-disposition: form-data" + "; a=" * 1_000)] * 3_000),
        closed(*[part("a:\r\n" * 600)] * 3_000),
        (b"\r\n--" + BOUNDARY.encode()[:-1]) * 600_000,
        b"\r\n-" * 4_000_000,
        closed(*[part()] * 200_000),
        closed(*[part('Content-Disposition: form-data; name="files"')] * 100_000),
        closed(part('Content-Disposition: form-data; name="files"', content=b"\r" * 16_000_000)),
    ],
    ids=range(10),
)
def test_no_form_takes_longer_than_its_bytes(body: bytes) -> None:
    """16 MB of whatever kind: less than a tenth of a microsecond for a byte."""
    begun = time.process_time()
    with suppress(MalformedForm, WrongFields):
        files(body, field="files")
    assert time.process_time() - begun < 2


def test_many_files_are_not_copied() -> None:
    body = form("files", [bytes(1_000)] * 10)
    assert all(found.obj is body for found in form_files(FORM, body, "files", MANY))
