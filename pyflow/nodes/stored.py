"""Files of the run's storage as nodes send and receive them. Blocking: call from a thread."""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Iterator
from typing import IO, cast

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show
from pyflow.net import files
from pyflow.net.files import FileReader
from pyflow.net.http_body import FilePart


class StoredFileMissingError(NonRetryableError, FileNotFoundError):
    """There is no file at that path of the storage."""

    code = "file_not_found"


def read(path: str) -> bytes:
    """The content. Raises ``StoredFileMissingError``, and ``PathRefusedError`` for a path outside the storage."""
    with _found(path):
        return files.storage().read(path)


def part(path: str) -> FilePart:
    """A file as a part of a request, read while it is sent. Raises what ``read`` raises."""

    def opened() -> FileReader:
        with _found(path):
            return files.storage().open(path)

    with opened() as reader:
        return FilePart(opened, reader.size, reader.version)


@contextlib.contextmanager
def _found(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StoredFileMissingError(f"no such file in the storage: {show(path, 200)}") from None


def save(path: str, spooled: IO[bytes]) -> int:
    """Make a temporary file the content of a stored one; its bytes.

    It is mapped and not read, so that a large file does not have to fit into memory.
    """
    size = spooled.seek(0, io.SEEK_END)
    if not size:
        files.storage().write(path, b"")
        return 0
    with mmap.mmap(spooled.fileno(), 0, access=mmap.ACCESS_READ) as content:
        files.storage().write(path, cast(bytes, content))
    return size
