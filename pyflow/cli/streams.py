"""Standard output and error of the `pyflow` process, where they may be closed, full, or a pipe that ended.

What cannot be written is dropped, so that a command goes on: a run must not stop halfway because nobody reads of it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class _Output(io.FileIO):
    """A file descriptor that takes everything; from the first failure on it drops what it takes."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return len(data)


def guard_streams() -> None:
    """Replace the standard streams of this process by such that never fail; closed ones drop everything."""
    sys.stdout, sys.stderr = _guarded(sys.stdout), _guarded(sys.stderr)


def exit_status(status: str | int | None) -> str | int | None:
    """The status to exit with: 1 for a success whose output was lost, which is said on standard error.

    A pipe that ended is no such loss: its reader has what it wanted.
    """
    sys.stdout.flush()
    binary = getattr(sys.stdout, "buffer", None)
    failure = getattr(getattr(binary, "raw", binary), "failure", None)
    if failure is None or failure.errno == errno.EPIPE:
        return status
    print(f"Error: standard output cannot be written: {failure.strerror}", file=sys.stderr)  # noqa: T201 - no command's
    return status or 1


def _guarded(stream: TextIO | None) -> TextIO:
    if stream is None:
        nowhere = _Output(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)
        return io.TextIOWrapper(nowhere, encoding="utf-8", write_through=True)
    binary = getattr(stream, "buffer", None)
    raw = getattr(binary, "raw", binary)
    if not isinstance(raw, io.FileIO):  # a Windows console, or replaced by a program
        return stream
    output = _Output(raw.fileno(), "w", closefd=False)
    unbuffered = binary is raw
    return io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),  # as Python itself with `-u`
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=unbuffered,
    )
