"""The family of errors that this package raises.

ModelError
├── UnknownArchitecture   no architecture has that name, or none has those state_dict keys
├── CheckpointError       a weights file or its card is missing, damaged or does not fit
└── ImageError            what was sent cannot be classified
    ├── EmptyImage            no bytes at all
    ├── NotAnImage            bytes that no decoder knows
    ├── BrokenImage           an image that ends early or is damaged
    ├── ImageTooLarge         more pixels than anyone needs here (refused from the header)
    ├── CostlyImage           an image that takes more time or memory to decode than is allowed
    ├── WrongImageSize        an image of another size than the model was trained on
    └── NothingFound          a blank page, or nothing on it that could be what the model knows
"""


class ModelError(Exception):
    """Whatever goes wrong in `models`; the message says what to do."""


class UnknownArchitecture(ModelError):
    """No architecture has that name, or none has those state_dict keys."""


class CheckpointError(ModelError):
    """A weights file or its card is missing, damaged or does not fit; the message names the file."""


class ImageError(ModelError):
    """What was sent cannot be classified: `detail` says why, `hint` what to do."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(f"{detail}: {hint}")
        self.detail = detail
        self.hint = hint


class EmptyImage(ImageError):
    """No bytes at all."""


class NotAnImage(ImageError):
    """Bytes that no decoder knows."""


class BrokenImage(ImageError):
    """An image that ends early or is damaged."""


class ImageTooLarge(ImageError):
    """More pixels than anyone needs here; refused from the header, nothing was decoded."""


class CostlyImage(ImageError):
    """An image that takes more time or memory to decode than is allowed."""


class WrongImageSize(ImageError):
    """An image of another size than the model was trained on."""


class NothingFound(ImageError):
    """A blank page, or nothing on it that could be what the model knows."""
