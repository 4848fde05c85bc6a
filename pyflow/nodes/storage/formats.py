"""Contents of files as the ``storage`` node of version 2 gives and takes them: JSON, text, CSV and bytes."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import said, show
from pyflow.core.plain import NotPlainError, to_plain


class FileContentError(NonRetryableError, ValueError):
    """A file is not what ``format`` says, or ``data`` cannot be written like that. Another attempt changes nothing."""

    code: ClassVar[str] = "file_content"


class Format:
    """A format: reads and writes files. ``path`` is for messages."""

    empty: ClassVar[Any] = ""
    """The value of a file that does not exist."""

    def __init__(self, path: str, *, separator: str = ",", header: bool = True) -> None:
        self.path = path
        self.separator = separator
        self.header = header

    def decode(self, content: bytes) -> Any:
        """The value of a file. Raises ``FileContentError``."""
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """The bytes of a file with a value. Raises ``FileContentError``."""
        raise NotImplementedError

    def joined(self, existing: Any, value: Any) -> Any:
        """A value with another at its end."""
        return existing + value

    def refuse_file(self, what: object) -> FileContentError:
        """The error for a file that is something else."""
        return FileContentError(f"the file {show(self.path, 200)} {said(what)}")

    def refuse_data(self, what: object) -> FileContentError:
        """The error for a value that cannot be written."""
        return FileContentError(f"`data` for the file {show(self.path, 200)} {said(what)}")


class Json(Format):
    """JSON; appending adds an element to the list in the file."""

    empty = []  # noqa: RUF012 - never changed: `joined` makes a new list

    def decode(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}: {error.msg}"
            raise self.refuse_file(f"is not JSON, {place}; `format` says what else a file is") from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise self.refuse_file(f"is not JSON: {_reason(error)}") from None

    def encode(self, value: Any) -> bytes:
        try:
            return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False).encode()
        except NotPlainError as error:
            raise self.refuse_data(error.reason + (f", at {error.place}" if error.path else "")) from None

    def joined(self, existing: Any, value: Any) -> Any:
        return [*(existing if isinstance(existing, list) else [existing]), value]


class Text(Format):
    """UTF-8; a byte order mark is left out."""

    def decode(self, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.refuse_file(f"is not text in UTF-8: {_reason(error)}") from None

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise self.refuse_data(f"is text, not {type(value).__name__}")
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise self.refuse_data("holds half of a surrogate pair") from None


class Bytes(Format):
    """Anything, as base64."""

    def decode(self, content: bytes) -> str:
        return base64.b64encode(content).decode("ascii")

    def encode(self, value: Any) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise self.refuse_data("is not base64") from None

    def joined(self, existing: Any, value: Any) -> Any:
        return self.decode(self.encode(existing) + self.encode(value))


class Csv(Text):
    """Rows (RFC 4180): mappings by the names of the header row, or lists where there is none. Fields are text."""

    empty = []  # noqa: RUF012 - never changed: `joined` makes a new list

    def decode(self, content: bytes) -> Any:
        reader = csv.reader(io.StringIO(super().decode(content), newline=""), delimiter=self.separator, strict=True)
        rows: list[Any] = []
        names: list[str] | None = None
        try:
            for fields in reader:
                if not fields:
                    continue
                if not self.header:
                    rows.append(fields)
                elif names is None:
                    names = fields
                    if len(set(names)) < len(names):
                        raise self.refuse_file("has a name twice in its header row")
                elif len(fields) != len(names):
                    place = f"line {reader.line_num}: {len(fields)} fields, and {len(names)} in the header row"
                    raise self.refuse_file(f"is not CSV, {place}")
                else:
                    rows.append(dict(zip(names, fields, strict=True)))
        except csv.Error as error:
            raise self.refuse_file(f"is not CSV, line {reader.line_num}: {error}") from None
        return rows

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, list):
            raise self.refuse_data(f"is a list of rows, not {type(value).__name__}")
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.separator)
        names = list(value[0]) if self.header and value and isinstance(value[0], Mapping) else None
        if names:
            writer.writerow(names)
        for number, row in enumerate(value):
            if isinstance(row, list | Mapping) and not row:
                raise self.refuse_data(f"has a row without fields, which no file in CSV can hold, at [{number}]")
            if names is not None and isinstance(row, Mapping) and set(row) == set(names):
                writer.writerow([_field(row[name]) for name in names])
            elif not self.header and isinstance(row, list):
                writer.writerow([_field(field) for field in row])
            else:
                kind = "a mapping with the names of the first" if self.header else "a list"
                raise self.refuse_data(f"has a row that is not {kind}, at [{number}]")
        return super().encode(text.getvalue())


#: A field may be as long as its file, which is limited elsewhere. (The limit is one of the process.)
csv.field_size_limit(2**31 - 1)
FORMATS: dict[str, type[Format]] = {"json": Json, "text": Text, "csv": Csv, "bytes": Bytes}


def _field(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _reason(error: UnicodeDecodeError | RecursionError) -> str:
    return f"byte {error.start}" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
