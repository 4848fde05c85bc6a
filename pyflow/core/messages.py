"""Shows values in messages: without secrets first, and cut to a length afterwards."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal

from pyflow.core.redaction import Redactor

#: Longer values are cut where a message shows them.
MAX_SHOWN = 80
#: Masks what the run knows whose node is executed here; a run sets it for all of its tasks and threads.
current_redactor: ContextVar[Redactor | None] = ContextVar("current_redactor", default=None)


def show(value: object, most: int = MAX_SHOWN) -> str:
    """A value as a message shows it: as Python writes it, secrets masked, and only then cut to ``most`` characters."""
    return repr(cut(masked(value), most)) if isinstance(value, str) else cut(masked(repr(value)), most)


def said(error: object, most: int = 1000, *, password: str | None = None) -> str:
    """Quote a foreign text in one line: secrets masked, and only then cut to ``most`` characters.

    ``password`` is one more secret, that of the connection to whoever said it.
    """
    text = masked(str(error))  # as it is: white space is a part of secrets, too
    if password:
        own = Redactor()
        own.add(password)
        text = own.redact_message(text)
    return cut(" ".join(text.split()), most)


def masked(text: str) -> str:
    """A text without the secrets of the run that is executed here, if one is."""
    redactor = current_redactor.get()
    return redactor.redact_message(text) if redactor else text


def cut(text: str, most: int, *, keep: Literal["beginning", "end"] = "beginning") -> str:
    """The text, or a part of it if it is longer than ``most``. For text in which secrets are masked already."""
    if keep == "end":
        return text if len(text) <= most else f"…{text[1 - most :]}"
    return text if len(text) <= most else f"{text[: most - 1]}…"
