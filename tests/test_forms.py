"""Forms: what clients write is read, what no client writes is refused, and nothing takes long."""

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

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


class Parsed(MultipartParser):
    """python-multipart's reading of a form: the names and contents of its parts."""

    def __init__(self, boundary: bytes, body: bytes) -> None:
        self.parts: list[tuple[bytes, bytes]] = []
        self.ended = False
        self._name = self._value = self._content = self._field = b""
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "end")
        super().__init__(boundary, {f"on_{name}": getattr(self, f"_on_{name}") for name in names})  # type: ignore[arg-type]
        self.write(body)
        self.finalize()

    def _on_part_begin(self) -> None:
        self._name = self._content = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _on_part_end(self) -> None:
        self.parts.append((self._name, self._content))

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._name = parse_options_header(self._value)[1].get(b"name", b"")
        self._field = self._value = b""

    def _on_end(self) -> None:
        self.ended = True


PIECES = st.sampled_from(
    [
        b"--abc", b"--abc--", b"\r\n", b"\n", b"abc", b"--", b"x", b"\x00", b": ", b'"', b"; ", b"file",
        b"files", b'Content-Disposition: form-data; name="file"',
        b'content-disposition: form-data; name="files"',
        b'; filename="a.png"', b"Content-Type: image/png", b"\r\n\r\n", b"\r\n--abc\r\n", b"\r\n--abc--\r\n",
    ]
)  # fmt: skip


@settings(max_examples=1_000, deadline=None)
@given(body=st.lists(PIECES, max_size=25).map(b"".join), field=st.sampled_from(["file", "files"]))
def test_a_form_is_read_as_another_parser_reads_it(body: bytes, field: str) -> None:
    """Where both take it: what one of them refuses is not a form."""
    try:
        other = Parsed(b"abc", body)
        found = files(body, "multipart/form-data; boundary=abc", field)
    except (MultipartParseError, MalformedForm, WrongFields, EmptyBody):
        return
    if other.ended:
        assert found == [content for name, content in other.parts if name == field.encode()]


@given(st.lists(st.sampled_from([b"\r\n", b"-", b"--", b"boundary", b"a", b"\n", b"\r"]), max_size=12))
def test_what_resembles_a_boundary_is_content(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    assert files(closed(part('Content-Disposition: form-data; name="file"', content=content))) == [content]


@given(body=st.binary(max_size=200), kind=st.text(st.characters(codec="latin-1"), max_size=40))
def test_no_content_type_raises_anything_else(body: bytes, kind: str) -> None:
    with suppress(MalformedForm, WrongFields, EmptyBody):
        files(body, "multipart/form-data; boundary=" + kind)


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
