"""The device that a model runs on."""

import torch

from models.errors import ModelError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is cuda where there is one, then mps, then cpu.

    Raises ModelError for a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch says "not compiled with CUDA" by an assertion
        raise ModelError(
            f"device {name!r} cannot be used here: choose auto, cpu, cuda or mps ({str(error).splitlines()[0]})"
        ) from error
    return device
