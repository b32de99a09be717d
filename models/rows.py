"""Images of a mapped array as tensors: what is indexed is read."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Rows:
    """Some images of a mapped array [N, C, H, W], and some more at their end; read when they are indexed."""

    def __init__(self, array: NDArray[np.uint8], rows: NDArray[np.int64], more: Tensor | None = None) -> None:
        self._array = array
        self._rows = rows
        self._more = more if more is None or len(more) else None

    def __len__(self) -> int:
        return len(self._rows) + (0 if self._more is None else len(self._more))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self._array.shape[1:]
        return (len(self), channels, height, width)

    def __getitem__(self, index: slice | Tensor | int) -> Tensor:
        """Those images, uint8 [n, C, H, W]; of a number, [C, H, W]."""
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        wanted = np.arange(len(self))[index] if isinstance(index, slice) else index.cpu().numpy()
        mapped = wanted < len(self._rows)
        if mapped.all():
            return torch.from_numpy(self._array[self._rows[wanted]])
        assert self._more is not None
        found = torch.empty((len(wanted), *self.shape[1:]), dtype=torch.uint8)
        inside = torch.from_numpy(mapped)
        found[inside] = torch.from_numpy(self._array[self._rows[wanted[mapped]]])
        found[~inside] = self._more[torch.from_numpy(wanted[~mapped] - len(self._rows))]
        return found

    def followed_by(self, more: Tensor) -> "Rows":
        """With other images at the end."""
        return Rows(self._array, self._rows, more if self._more is None else torch.cat([self._more, more]))
