"""Which alias of a model answers a request: the same for the same key, in every process."""

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32


@dataclass(frozen=True)
class Split:
    """`upper` bounds of the parts of 0..99, each with the name that the registry has for the alias."""

    model: bytes
    parts: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, model: str, shares: Mapping[str, int]) -> "Split":
        """Of shares in percent, which sum to 100. Aliases have an order of their own, so that a part that grows
        keeps whom it has."""
        upper, parts = 0, []
        for alias in sorted(shares, key=lambda alias: (alias == "production", alias)):
            upper += shares[alias]
            parts.append((upper, f"{model}@{alias}"))
        return cls(model.encode(), tuple(parts))

    def choose(self, key: bytes) -> str:
        """The name whose turn it is; which callers a model tries does not depend on those of another."""
        place = crc32(key, crc32(self.model)) % 100
        for upper, name in self.parts:
            if place < upper:
                return name
        return self.parts[-1][1]
