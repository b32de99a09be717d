"""The family of errors that this package raises.

ModelError
├── UnknownArchitecture   no architecture has that name, or none has those state_dict keys
├── CheckpointError       a weights file or its card is missing, damaged or does not match
├── GraphFailed           the process of an ONNX model gave no answer
├── TableError            the cells of a row, or the columns of a table, cannot be read
└── ImageError            the input cannot be classified
    ├── EmptyImage            no bytes at all
    ├── NotAnImage            bytes that are not in a known image format
    ├── BrokenImage           an image that ends early or is damaged
    ├── ImageTooLarge         more pixels than are allowed (refused by the header)
    ├── CostlyImage           an image that takes more time or memory to decode than is allowed
    ├── WrongImageSize        an image of another size than the model was trained on
    ├── NothingFound          a blank page, or nothing on it that could be a digit
    └── TooManyDigits         more digits than are read from one picture
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError  # the decoders of images do without


class ModelError(Exception):
    """Any error of `models`; the message says what to do."""


class UnknownArchitecture(ModelError):
    """No architecture has that name, or none has those state_dict keys."""


class CheckpointError(ModelError):
    """A weights file or its card is missing, damaged or does not match; the message names the file."""


class GraphFailed(ModelError):
    """The process of an ONNX model gave no answer: it was ended, or met a limit."""


class TableError(ModelError):
    """A row or a table that a model cannot read: `detail` names the column, `hint` says what to do."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(f"{detail}: {hint}")
        self.detail = detail
        self.hint = hint


class ImageError(ModelError):
    """The input cannot be classified: `detail` says why, `hint` what to do."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(f"{detail}: {hint}")
        self.detail = detail
        self.hint = hint


class EmptyImage(ImageError):
    """No bytes at all."""


class NotAnImage(ImageError):
    """Bytes that are not in a known image format."""


class BrokenImage(ImageError):
    """An image that ends early or is damaged."""


class ImageTooLarge(ImageError):
    """More pixels than are allowed; refused by the header, before decoding."""


class CostlyImage(ImageError):
    """An image that takes more time or memory to decode than is allowed."""


class WrongImageSize(ImageError):
    """An image of another size than the model was trained on."""


class NothingFound(ImageError):
    """A blank page, or nothing on it that could be a digit."""


class TooManyDigits(ImageError):
    """More digits than are read from one picture."""


def first_problem(error: "ValidationError") -> str:
    """The first thing that pydantic found, on one line: `field: what is wrong`."""
    problem = error.errors(include_url=False)[0]
    field = ".".join(map(str, problem["loc"]))
    return f"{field}: {problem['msg']}" if field else problem["msg"]
