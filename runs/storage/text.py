"""Text as the database can hold it."""

from __future__ import annotations


def storable_text(text: str) -> str:
    """A text as PostgreSQL can hold it: without what is no character, and without NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
