"""Large values of runs: inputs and outputs that are too long for a row are files beside the database.

A row keeps a ``Reference`` in their place. What a reference names is found by tenant and run, so that no reference
leads to another tenant's values, and by the SHA-256 of the value's JSON, which is looked at again whenever it is read.
A file is there before the row that refers to it is committed, and goes after that row has gone: what is lost in between
is a file that nobody refers to, and ``manage.py prune`` removes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import UUID

import orjson
from django.conf import settings

from pyflow.net.files import make_private
from runs.errors import ValueCorruptError, ValueMissingError

logger = logging.getLogger(__name__)
#: Bytes that are read, and bytes that are handed on, at a time.
CHUNK = 64 * 1024
#: Of zlib's levels: JSON gets nearly as small as with the others, in a third of the time.
LEVEL = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A value that is stored apart: the SHA-256 of its JSON, in hexadecimal, and how many bytes that JSON has."""

    sha256: str
    size: int

    @classmethod
    def of(cls, recorded: Any) -> Reference | None:
        """Return the reference in a row (``{sha256, size}`` or ``None``). A damaged one raises when it is read."""
        if recorded is None:
            return None
        return cls(str(recorded.get("sha256")), recorded.get("size", 0)) if isinstance(recorded, dict) else cls("", 0)

    def as_dict(self) -> dict[str, Any]:
        """For a row, and for whoever is shown it."""
        return {"sha256": self.sha256, "size": self.size}


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a value: a run of a tenant."""

    tenant_id: UUID
    run_id: UUID


class ValueStore(Protocol):
    """Port of the value storage: blobs, addressed by the run that owns them and the SHA-256 of their content.

    An implementation knows nothing of compression and does not look at contents. Its methods may be called from any
    thread and any process at the same time, and raise ``OSError`` if the storage does not work.
    """

    def put(self, owner: Owner, name: str, blob: bytes) -> None:
        """Store a blob; durable, and whole to every reader, once this returns. One that is there already stays."""

    def open(self, owner: Owner, name: str) -> BinaryIO:
        """The blob, to be read and closed. Raises ``ValueMissingError``."""

    def copy(self, source: Owner, to: Owner, name: str) -> None:
        """Store a blob of one run as one of another run of its tenant, too. Raises ``ValueMissingError``."""

    def delete(self, owner: Owner, name: str) -> None:
        """Remove a blob, if there is one."""

    def delete_all(self, owner: Owner) -> None:
        """Remove all blobs of a run, if there are any."""

    def owners(self, tenant_id: UUID | None = None) -> Iterator[tuple[Owner, float]]:
        """The runs (of one tenant) that have blobs, and when each got its last one (POSIX seconds)."""


class DirectoryStore:
    """Values as files below a directory, which all processes of an installation share.

    ``<tenant>/<two digits>/<run>/<sha256>.z``: every part is made of a UUID or of a checked hash, so no name leads
    anywhere else, and links are not followed. Files are for this user only.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, owner: Owner, name: str, blob: bytes) -> None:
        """Write the value to a temporary file, sync it, and rename it into place."""
        path = self._path(owner, name)
        if path.exists():
            return
        self._make(path.parent)
        part = path.parent / f".{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(part, _CREATE, 0o600), "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _sync(path.parent)

    def open(self, owner: Owner, name: str) -> BinaryIO:
        try:
            return os.fdopen(os.open(self._path(owner, name), _READ), "rb")
        except FileNotFoundError:
            raise ValueMissingError(f"The value {name} of run {owner.run_id} is not in the storage.") from None

    def copy(self, source: Owner, to: Owner, name: str) -> None:
        with self.open(source, name) as file:
            self.put(to, name, file.read())

    def delete(self, owner: Owner, name: str) -> None:
        self._path(owner, name).unlink(missing_ok=True)

    def delete_all(self, owner: Owner) -> None:
        with suppress(FileNotFoundError):  # another process does the same
            shutil.rmtree(self._directory(owner))

    def owners(self, tenant_id: UUID | None = None) -> Iterator[tuple[Owner, float]]:
        """List the owners. Files with foreign names are ignored."""
        tenants = _uuids(self._root) if tenant_id is None else [tenant_id]
        for tenant in tenants:
            for shard in _names(self._root / str(tenant)):
                for run_id in _uuids(self._root / str(tenant) / shard):
                    owner = Owner(tenant, run_id)
                    with suppress(FileNotFoundError):
                        yield owner, self._directory(owner).stat().st_mtime

    def _directory(self, owner: Owner) -> Path:
        # By the end of the id, which is random: its beginning is the time.
        return self._root / str(owner.tenant_id) / owner.run_id.hex[-2:] / str(owner.run_id)

    def _path(self, owner: Owner, name: str) -> Path:
        if not _SHA256.fullmatch(name):
            raise ValueCorruptError("The name of a stored value is not a SHA-256.")
        return self._directory(owner) / f"{name}.z"

    def _make(self, directory: Path) -> None:
        """The directory with those above it, durably; somebody else may make or remove them meanwhile."""
        if directory.is_dir():
            return
        make_private(self._root)
        for made in (directory.parent.parent, directory.parent, directory):
            made.mkdir(mode=0o700, exist_ok=True)
            _sync(made.parent)


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(found.name for found in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _uuids(directory: Path) -> Iterator[UUID]:
    for name in _names(directory):
        with suppress(ValueError):
            if str(found := UUID(name)) == name:
                yield found


@cache
def _directory_store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def store() -> ValueStore:
    """The store of this installation."""
    return _directory_store(settings.PYFLOW_VALUES_ROOT)


def content_of(value: Any) -> bytes:
    """A value as the JSON that is stored, measured and hashed."""
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, which JSON has
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def is_large(content: bytes) -> bool:
    """Return whether a value with this JSON is stored apart."""
    return len(content) > settings.PYFLOW_LARGE_VALUE_BYTES


def put(owner: Owner, content: bytes) -> Reference | None:
    """Store a value's JSON; ``None`` if the storage does not work, which is logged.

    It is then kept in the row as a small one is: a full disk costs room in the database, and no run.
    """
    reference = Reference(hashlib.sha256(content).hexdigest(), len(content))
    try:
        store().put(owner, reference.sha256, zlib.compress(content, LEVEL))
    except OSError as error:
        logger.error("a value of run %s stays in the database, it cannot be stored: %s", owner.run_id, error)  # noqa: TRY400 - the trace says no more
        return None
    return reference


def outsource(owner: Owner, value: Any) -> tuple[Any, Reference | None]:
    """Return what is kept in the row, and the reference if the value is stored apart."""
    content = content_of(value)
    reference = put(owner, content) if is_large(content) else None
    return (value, None) if reference is None else (None, reference)


def delete(owner: Owner, reference: Reference) -> None:
    """Remove a value that no row refers to any more; a storage that does not work keeps it until the run goes."""
    try:
        store().delete(owner, reference.sha256)
    except OSError as error:
        logger.warning("a value of run %s that is not needed any more stays: %s", owner.run_id, error)


def load(owner: Owner, reference: Reference) -> Any:
    """A stored value. Raises ``ValueMissingError`` or ``ValueCorruptError``."""
    with closing(stream(owner, reference)) as pieces:
        # Not orjson: it reads integers beyond 64 bits as floating-point numbers.
        return json.loads(b"".join(pieces))


def stream(owner: Owner, reference: Reference) -> Pieces:
    """The JSON of a stored value, in pieces; to be closed. Raises ``ValueMissingError``."""
    return Pieces(store().open(owner, reference.sha256), reference)


class Pieces(Iterator[bytes]):
    """The JSON of a stored value, in pieces that are each handed on only when there is a next one.

    Raises ``ValueCorruptError`` before the last one if it is not what was stored: nobody gets all of a wrong value.
    """

    def __init__(self, file: BinaryIO, reference: Reference) -> None:
        """``file`` is these pieces' from now on."""
        self._file = file
        self._pieces = _checked(file, reference)

    def __next__(self) -> bytes:
        """The next piece."""
        return next(self._pieces)

    def close(self) -> None:
        """Close the file, however much of it was read."""
        self._file.close()


def _checked(file: BinaryIO, reference: Reference) -> Iterator[bytes]:
    digest, size, held = hashlib.sha256(), 0, b""
    for piece in _decompressed(file, reference):
        size += len(piece)
        if size > reference.size:
            break
        digest.update(piece)
        if held:
            yield held
        held = piece
    if size != reference.size or digest.hexdigest() != reference.sha256:
        raise _corrupt(reference)
    yield held


def _decompressed(file: BinaryIO, reference: Reference) -> Iterator[bytes]:
    """Never more than ``CHUNK`` bytes at a time, whatever is in the file."""
    decompressor = zlib.decompressobj()
    try:
        while not decompressor.eof and (read := file.read(CHUNK)):
            while read and not decompressor.eof:
                if piece := decompressor.decompress(read, CHUNK):
                    yield piece
                read = decompressor.unconsumed_tail
    except zlib.error:
        raise _corrupt(reference) from None


def _corrupt(reference: Reference) -> ValueCorruptError:
    return ValueCorruptError(f"The stored value {reference.sha256} is damaged: it is not what was stored.")
