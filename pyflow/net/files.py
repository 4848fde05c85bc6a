"""File storage: whole files under keys, confined to a directory that others cannot widen by links or by luck of timing.

Keys are relative POSIX paths. A walk from the root opens each directory by the descriptor of the one before it and
follows no link, so nothing that is swapped meanwhile leads outside. Only regular files are touched. A write replaces
the file as a whole; an update holds a lock across processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from pyflow.core.errors import NonRetryableError
from pyflow.core.messages import show

MAX_COMPONENT = 255
"""Bytes of UTF-8 in one name: what ext4, XFS, APFS and S3 gateways agree on."""
MAX_KEY = 1024
MAX_DEPTH = 32

#: The directory that the ``storage`` node of the current run is confined to; ``None``: ``PYFLOW_STORAGE_ROOT``, or
#: without that no confinement. The platform sets it for each run.
current_root: ContextVar[Path | None] = ContextVar("pyflow_storage_root", default=None)
#: How many bytes all files below ``current_root`` may have together; ``None``: no limit.
current_quota: ContextVar[int | None] = ContextVar("pyflow_storage_quota", default=None)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a named pipe would wait for its other end for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PathRefusedError(NonRetryableError, ValueError):
    """The path leads, or could lead, to something that is not a plain file of this storage."""

    code: ClassVar[str] = "path_refused"


class StorageQuotaError(NonRetryableError):
    """The write would take the storage beyond its quota; nothing was written."""

    code: ClassVar[str] = "stored_bytes_exceeded"


def make_private(folder: Path) -> None:
    """Make a directory and the ones above it that are missing, for their owner alone (mode 700) whatever the umask."""
    missing = [folder, *folder.parents]
    for one in reversed(missing[: next((n for n, path in enumerate(missing) if path.is_dir()), len(missing))]):
        with contextlib.suppress(FileExistsError):
            one.mkdir(mode=0o700)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_private(path: str, flags: int) -> int:
    """Open a path for ``open(…, opener=open_private)``: a file that is made is for its owner alone (mode 600)."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def used_bytes(root: Path) -> int:
    """Add up the sizes of all files below a directory; 0 where there is none."""
    total = 0
    with contextlib.suppress(FileNotFoundError):  # there is no such directory
        for _, _, names, directory in os.fwalk(root, follow_symlinks=False):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    return total


class FileReader:
    """A file of the storage, open for reading: one content from beginning to end, if ``current_version`` stays.

    ``size``: its bytes. ``version``: equal for two readers that give the same content. Close it, or use ``with``.
    """

    def __init__(self, file: int) -> None:
        """``file``: the descriptor, which is this reader's from now on."""
        self._file = file
        self.size = os.fstat(file).st_size
        self.version = self.current_version()

    def read(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        return os.read(self._file, most)

    def current_version(self) -> tuple[int, ...]:
        """The version by now. Another one than ``version``: somebody is writing into the very file that is read."""
        found = os.fstat(self._file)
        # A write of the storage makes a new file; what others do to this one shows in its size or time.
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def close(self) -> None:
        """Close it; a second time changes nothing."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.close()  # of one that was opened in a thread for somebody who no longer waits for it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class FileStorage(Protocol):
    """Files of the ``storage`` node. Blocking: call it from a thread."""

    def read(self, key: str) -> bytes:
        """The content; ``FileNotFoundError`` if there is none."""

    def open(self, key: str) -> FileReader:
        """The file, to be read in pieces; ``FileNotFoundError`` if there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Replace the content as a whole; readers see the old one or the new one."""

    def update(self, key: str, change: Callable[[bytes | None], bytes]) -> bytes:
        """Replace the content by what ``change`` makes of it (``None``: no file), one caller at a time; return it."""


def storage() -> FileStorage:
    """The storage of the current run: ``current_root``, else ``PYFLOW_STORAGE_ROOT``, else any path of this machine."""
    root = current_root.get()
    if root is None and (configured := os.environ.get("PYFLOW_STORAGE_ROOT")):
        root = Path(configured)
    return OpenFiles() if root is None else ConfinedFiles(root, quota=current_quota.get())


class ConfinedFiles:
    """Files below one directory and nowhere else. ``quota``: bytes of all of them together."""

    def __init__(self, root: Path | str, *, quota: int | None = None) -> None:
        self.root = Path(root)
        self.quota = quota

    def read(self, key: str) -> bytes:
        """The content; ``FileNotFoundError`` if there is none. Raises ``PathRefusedError``."""
        with self._parent(key, create=False) as (directory, name):
            return _read_at(directory, name, one_name=True)

    def open(self, key: str) -> FileReader:
        """The file, to be read in pieces; ``FileNotFoundError`` if there is none. Raises ``PathRefusedError``."""
        with self._parent(key, create=False) as (directory, name):
            return FileReader(_open_at(directory, name, one_name=True))

    def write(self, key: str, data: bytes) -> None:
        """Replace the content as a whole. Raises ``PathRefusedError`` or ``StorageQuotaError``."""
        self.update(key, lambda _: data, needs_current=False)

    def update(self, key: str, change: Callable[[bytes | None], bytes], *, needs_current: bool = True) -> bytes:
        """Replace the content by what ``change`` makes of it, one caller at a time."""
        with self._parent(key, create=True) as (directory, name), self._locked(directory):
            current = None
            if needs_current:
                with contextlib.suppress(FileNotFoundError):
                    current = _read_at(directory, name, one_name=True)
            data = change(current)
            replaced = _size_at(directory, name, one_name=True)
            if self.quota is not None and used_bytes(self.root) - replaced + len(data) > self.quota:
                raise StorageQuotaError(f"writing {len(data):,} bytes would exceed the quota of {self.quota:,} bytes")
            _replace_at(directory, name, data)
            return data

    @contextlib.contextmanager
    def _parent(self, key: str, *, create: bool) -> Iterator[tuple[int, str]]:
        """The descriptor of the directory that holds the file, and the file's name in it."""
        *folders, name = components(key)
        if create:
            make_private(self.root)
        directory = os.open(self.root, _DIRECTORY & ~os.O_NOFOLLOW)  # the operator may well make the root a link
        try:
            for folder in folders:
                inner = _enter(directory, folder, create=create)
                os.close(directory)
                directory = inner
            yield directory, name
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self, directory: int) -> Iterator[None]:
        # The lock is on a directory, so that it leaves no file behind; with a quota on the root, because the sum of
        # all files is at stake.
        if self.quota is None:
            with _lock(directory):
                yield
            return
        root = os.open(self.root, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            with _lock(root):
                yield
        finally:
            os.close(root)

    def room(self, path: Path) -> int | None:
        """Return the bytes that a file of the storage may have, with all others as they are; ``None``: no limit."""
        if self.quota is None:
            return None
        own = path.stat().st_size if path.exists() else 0
        return max(0, self.quota - used_bytes(self.root) + own)


class OpenFiles:
    """Any file that this process may reach: v1's behaviour, for workflows that their own author runs.

    Relative paths count from the working directory and links are followed, yet only to regular files.
    """

    def read(self, key: str) -> bytes:
        """The content; ``FileNotFoundError`` if there is none."""
        with self._parent(key, create=False) as (directory, name):
            return _read_at(directory, name, one_name=False)

    def open(self, key: str) -> FileReader:
        """The file, to be read in pieces; ``FileNotFoundError`` if there is none."""
        with self._parent(key, create=False) as (directory, name):
            return FileReader(_open_at(directory, name, one_name=False))

    def write(self, key: str, data: bytes) -> None:
        """Replace the content as a whole; parent directories are made."""
        with self._parent(key, create=True) as (directory, name), _lock(directory):
            _size_at(directory, name, one_name=False)
            _replace_at(directory, name, data)

    def update(self, key: str, change: Callable[[bytes | None], bytes]) -> bytes:
        """Replace the content by what ``change`` makes of it, one caller at a time."""
        with self._parent(key, create=True) as (directory, name), _lock(directory):
            current = None
            with contextlib.suppress(FileNotFoundError):
                current = _read_at(directory, name, one_name=False)
            data = change(current)
            _replace_at(directory, name, data)
            return data

    @contextlib.contextmanager
    def _parent(self, key: str, *, create: bool) -> Iterator[tuple[int, str]]:
        # Resolved first: a link stays a link, its target is replaced.
        path = Path(os.path.realpath(_text(key)))
        if create:
            make_private(path.parent)
        directory = os.open(path.parent, _DIRECTORY)
        try:
            yield directory, path.name
        finally:
            os.close(directory)


def components(key: str) -> list[str]:
    """The names that a key consists of. Raises ``PathRefusedError`` for any that could mean more than a name.

    Nothing is decoded or expanded: ``%2e``, ``~`` and ``$HOME`` are names. ``a//b`` and ``./a/b`` are ``a/b``.
    """
    if len(_text(key).encode("utf-8")) > MAX_KEY:
        raise PathRefusedError(f"the path is longer than {MAX_KEY:,} bytes")
    if key.startswith("/"):
        raise PathRefusedError(f"an absolute path: {show(key)}; storage paths are relative to the storage's root")
    if key.endswith("/"):
        raise PathRefusedError(f"a directory, not a file: {show(key)}")
    names = [name for name in key.split("/") if name not in ("", ".")]
    if not names or key.rpartition("/")[2] == ".":
        raise PathRefusedError(f"no file name in the path {show(key)}")
    if len(names) > MAX_DEPTH:
        raise PathRefusedError(f"the path is more than {MAX_DEPTH} levels deep")
    for name in names:
        _check_name(name)
    return names


def _text(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise PathRefusedError("a storage path is text that is not empty")
    if "\0" in key:
        raise PathRefusedError("the path holds a NUL character")
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:
        raise PathRefusedError("the path holds characters that UTF-8 does not have") from None
    return key


def _check_name(name: str) -> None:
    # Some file systems and most people read a look-alike as what it looks like.
    looks_like = unicodedata.normalize("NFKC", name)
    if looks_like in (".", "..") or "/" in looks_like:
        raise PathRefusedError(f"a step out of its directory: {show(name)}")
    # Control and format characters (with the bidirectional overrides), line separators, unassigned halves.
    if "\\" in name or any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") for char in name):
        raise PathRefusedError(f"a character that no file name may have: {show(name)}")
    if len(name.encode("utf-8")) > MAX_COMPONENT:
        raise PathRefusedError(f"a name of more than {MAX_COMPONENT} bytes")


def _enter(directory: int, folder: str, *, create: bool) -> int:
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=directory)
        return os.open(folder, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise PathRefusedError(f"not a directory of this storage: {folder!r}") from None
        raise


def _read_at(directory: int, name: str, *, one_name: bool) -> bytes:
    with os.fdopen(_open_at(directory, name, one_name=one_name), "rb") as opened:
        return opened.read()


def _open_at(directory: int, name: str, *, one_name: bool) -> int:
    """The descriptor of a plain file, for reading."""
    try:
        file = os.open(name, _READ, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            raise _not_a_file(name) from None
        raise
    try:
        _require_plain(os.fstat(file), name, one_name=one_name)
    except BaseException:
        os.close(file)
        raise
    return file


def _size_at(directory: int, name: str, *, one_name: bool) -> int:
    """The size of the file that a write will replace, 0 without one; refuses to replace anything but a plain file."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    _require_plain(found, name, one_name=one_name)
    return found.st_size


def _require_plain(found: os.stat_result, name: str, *, one_name: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _not_a_file(name)
    if one_name and found.st_nlink > 1:
        # A hard link made by someone else shares its content with a file that may lie outside.
        raise PathRefusedError(f"{name!r} is a file that also has another name")


def _not_a_file(name: str) -> PathRefusedError:
    return PathRefusedError(f"{name!r} is not a regular file")


def _replace_at(directory: int, name: str, data: bytes) -> None:
    """Write a new file and rename it over the old one (POSIX: atomic), synced so that a power cut keeps one of them."""
    temporary = f".{secrets.token_hex(8)}.tmp"
    file = os.open(temporary, _CREATE, 0o600, dir_fd=directory)
    try:
        with os.fdopen(file, "wb") as opened:
            with contextlib.suppress(FileNotFoundError):
                kept = os.stat(name, dir_fd=directory, follow_symlinks=False)
                os.fchmod(file, stat.S_IMODE(kept.st_mode))
            opened.write(data)
            opened.flush()
            os.fsync(file)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise


@contextlib.contextmanager
def _lock(directory: int) -> Iterator[None]:
    # A lock belongs to the open file description, so threads of one process exclude each other, too.
    fcntl.flock(directory, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)
