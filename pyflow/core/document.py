"""A document that was read: its data, and where in its text each value stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Scalars = Literal["1.1", "1.2"]


Path = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """A parsed document: ``data`` (plain Python) and the 1-based ``(line, column)`` of each path in it."""

    data: Any
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    source: str = ""
    _by_pointer: dict[str, tuple[int, int]] | None = None

    def position(self, pointer: str) -> tuple[int | None, int | None]:
        """Return the position of the value at a JSON Pointer, or of the nearest enclosing one in the document."""
        if self._by_pointer is None:
            self._by_pointer = {make_pointer(path): at for path, at in self.positions.items()}
        while pointer and pointer not in self._by_pointer:
            pointer = pointer.rpartition("/")[0]
        return self._by_pointer.get(pointer, (None, None))


def make_pointer(path: Path) -> str:
    """A path as an RFC 6901 JSON Pointer."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
