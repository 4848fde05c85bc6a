"""File storage: the corpus, both modes, and writers that race."""

import contextlib
import errno
import json
import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyflow.net import files
from pyflow.net.files import ConfinedFiles, OpenFiles, PathRefusedError, StorageQuotaError
from tests.support import corpora


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "tenant_a"
    path.mkdir()
    return path


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A neighbour whose name begins with that of the root, with a secret in it."""
    path = tmp_path / "tenant_a_evil"
    path.mkdir()
    (path / "passwd").write_text("secret")
    (path / "secret").write_text("secret")
    return path


def prepare(case: corpora.Case, root: Path, outside: Path) -> None:
    """Lay out what a case needs; what it puts in `/etc` or `/tmp` is put in `outside`."""
    for kind, what in case.get("setup", {}).items():
        if kind in ABOUT_THE_TEST:
            continue
        name, other = what if isinstance(what, list) else (what, "")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "symlink":
                is_inside = not other.startswith("/") and ".." not in other.split("/")
                away = outside / "passwd" if corpora.text(case) == name else outside
                path.symlink_to(root / other if is_inside else away)
            case "mkdir":
                path.mkdir()
            case "mkfifo":
                os.mkfifo(path)
            case "socket":
                make_socket(path)
            case "mknod":
                make_device(path)
            case "hardlink":
                os.link(outside / "secret", path)
            case "file":
                path.write_text(other)
            case _:
                corpora.unread(case, f"the setup {kind!r}")


#: What the test itself does, or what makes no difference here: the root has a name of its own.
ABOUT_THE_TEST = {"race_symlink", "quota_bytes", "write_bytes", "root"}


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        # Containers may not make devices. A socket is no regular file either.
        make_socket(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(path.parent)  # a path may be longer than an address of a socket
        try:
            sock.bind(path.name)
        finally:
            os.chdir(here)


@contextlib.contextmanager
def swapping(setup: dict[str, Any], root: Path, outside: Path) -> Iterator[None]:
    """Meanwhile a directory keeps turning into a link to the outside and back."""
    if "race_symlink" not in setup:
        yield
        return
    name = root / setup["race_symlink"][0]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                name.rename(root / "aside")
            with contextlib.suppress(OSError):
                name.symlink_to(outside)
            with contextlib.suppress(OSError):
                name.unlink()
            with contextlib.suppress(OSError):
                (root / "aside").rename(name)

    name.mkdir()
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@corpora.each("path_traversal")
def test_the_corpus(case: corpora.Case, root: Path, outside: Path):
    key, setup, expect = corpora.text(case), case.get("setup", {}), case["expect"]
    prepare(case, root, outside)
    storage = ConfinedFiles(root, quota=setup.get("quota_bytes"))
    before, around = everything(outside), everything(root)
    data = b"x" * setup.get("write_bytes", 5)
    if "race_symlink" in setup:
        with swapping(setup, root, outside):
            for _ in range(300):
                with contextlib.suppress(PathRefusedError, FileNotFoundError):
                    storage.write(key, data)
    elif expect == "block":
        with pytest.raises(PathRefusedError):
            storage.write(key, data)
        for look in (storage.read, storage.open):
            with pytest.raises(PathRefusedError):
                look(key)
        assert everything(root) == around
    elif expect == "limit":
        with pytest.raises(StorageQuotaError):
            storage.write(key, data)
        assert everything(root) == around
    elif expect in ("literal", "allow"):
        storage.write(key, data)
        assert (root / key).read_bytes() == storage.read(key) == data
    elif expect.endswith("_or_block"):
        with contextlib.suppress(PathRefusedError):
            storage.write(key, data)
            assert list(everything(root).values()) == [*around.values(), data]
    else:
        corpora.unread(case, f"the expectation {expect!r}")
    assert everything(outside) == before


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "key",
    ["..", ".", "a/..", "a/../b", "/", "a/", "a/.", "./", "\0", "a\0b", "\ud800", "a\\b", "a\x7fb", "a\u2028b",
     "a\u200fb", "a" * 256, "/".join("a" * 10), "a/" * 32 + "b", "/".join(["c" * 150] * 9),
     "\u2024\u2024/x", "\u2025", "..\uff0fx", "a\x1b[31m", "a\x85b", "a\u2066b", "a\u2060b", "\ufeffa",
     "../" * 50 + "x", "a\r\nb", "\\\\server\\share\\x", "C:\\x", "//", "a//", "é" * 128, "a" * 100_000],
)  # fmt: skip
def test_what_could_mean_more_than_a_name_is_refused(key: str, root: Path):
    if key == "a/a/a/a/a/a/a/a/a/a":
        ConfinedFiles(root).write(key, b"")  # ten levels are fine
        return
    with pytest.raises(PathRefusedError):
        ConfinedFiles(root).write(key, b"")


@pytest.mark.parametrize(
    "key",
    ["..%2fsecret", "%252e%252e%252fx", "..;/x", "...", "..a", "a..", "~", "~/x", "${HOME}/x", "$(id)", "`id`", "-rf",
     "*", "?", "a|b", "a;b", "a'b\"c", "a:b", " a", "%00", "{{ x }}", ".hidden", "e\u0301", "\U0001f600", "é" * 127],
)  # fmt: skip
def test_what_only_looks_like_more_than_a_name_is_one(key: str, root: Path):
    storage = ConfinedFiles(root)
    storage.write(key, b"1")
    assert list(everything(root)) == [key]
    assert storage.read(key) == b"1"


def test_two_spellings_are_one_file(root: Path):
    storage = ConfinedFiles(root)
    storage.write("a//b", b"1")
    assert storage.read("./a/./b") == b"1"


def test_a_link_as_the_last_name_is_not_followed(root: Path, outside: Path):
    (root / "link").symlink_to(outside / "secret")
    storage = ConfinedFiles(root)
    for action in (lambda: storage.read("link"), lambda: storage.open("link"), lambda: storage.write("link", b"x")):
        with pytest.raises(PathRefusedError):
            action()
    assert (outside / "secret").read_text() == "secret"


def test_the_root_itself_may_be_a_link(root: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(root)
    ConfinedFiles(tmp_path / "link").write("a", b"1")
    assert (root / "a").read_bytes() == b"1"


def test_a_missing_file_is_a_file_not_found(root: Path):
    for storage, key in (
        (ConfinedFiles(root), "a/b"),
        (ConfinedFiles(root / "none"), "a"),
        (OpenFiles(), str(root / "a/b")),
    ):
        for look in (storage.read, storage.open):
            with pytest.raises(FileNotFoundError):
                look(key)
    assert everything(root) == {}


def test_a_failed_write_leaves_the_old_content_and_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch):
    storage = ConfinedFiles(root)
    storage.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        storage.write("a", b"new")
    assert everything(root) == {"a": b"old"}


def test_a_write_keeps_the_mode_of_the_file(root: Path):
    path = root / "a"
    path.write_bytes(b"")
    path.chmod(0o640)
    ConfinedFiles(root).write("a", b"1")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_quota_counts_all_files_and_what_is_replaced(root: Path):
    storage = ConfinedFiles(root, quota=10)
    storage.write("a", b"12345")
    storage.write("b/c", b"12345")
    storage.write("a", b"54321")
    with pytest.raises(StorageQuotaError):
        storage.write("a", b"123456")
    with pytest.raises(StorageQuotaError):
        storage.write("d", b"1")
    assert everything(root) == {"a": b"54321", "b/c": b"12345"}


def append(kind: str, root: str, worker: int, times: int) -> None:
    storage: Any = ConfinedFiles(root, quota=10**9) if kind == "confined" else OpenFiles()
    key = "log/list.json" if kind == "confined" else f"{root}/log/list.json"
    for number in range(times):
        storage.update(key, lambda old, n=number: json.dumps([*json.loads(old or b"[]"), [worker, n]]).encode())


@pytest.mark.parametrize("kind", ["confined", "open"])
def test_concurrent_appends_lose_nothing(kind: str, root: Path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append, args=(kind, str(root), worker, 50)) for worker in range(4)]
    threads = [threading.Thread(target=append, args=(kind, str(root), worker, 50)) for worker in range(4, 8)]
    for one in (*workers, *threads):
        one.start()
    for one in (*workers, *threads):
        one.join()
    content = json.loads((root / "log/list.json").read_bytes())
    assert sorted(content) == [[worker, number] for worker in range(8) for number in range(50)]
    assert [path.name for path in (root / "log").iterdir()] == ["list.json"]


def test_readers_never_see_half_a_write(root: Path):
    storage = ConfinedFiles(root)
    contents = {b"a" * 200_000, b"b" * 300_000}
    storage.write("x", b"a" * 200_000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                storage.write("x", content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert {storage.read("x") for _ in range(200)} <= contents
    finally:
        stop.set()
        thread.join()


def test_unconfined_any_regular_file_goes(root: Path, monkeypatch: pytest.MonkeyPatch):
    storage = OpenFiles()
    monkeypatch.chdir(root)
    storage.write("new/a.json", b"1")
    storage.write("new/../b.json", b"2")
    (root / "link").symlink_to(root / "new/a.json")
    storage.write("link", b"3")
    assert (root / "link").is_symlink()
    assert everything(root) == {"new/a.json": b"3", "b.json": b"2", "link": b"3"}


def test_unconfined_what_is_no_file_is_refused_without_a_wait(root: Path):
    os.mkfifo(root / "fifo")
    for key in (str(root / "fifo"), "/dev/zero", str(root)):
        for look in (OpenFiles().read, OpenFiles().open):
            with pytest.raises(PathRefusedError):
                look(key)
        with pytest.raises(PathRefusedError):
            OpenFiles().write(key, b"")


@pytest.mark.parametrize("kind", ["confined", "open"])
def test_a_file_is_read_in_pieces_and_keeps_its_content_when_it_is_replaced(kind: str, root: Path):
    storage: Any = ConfinedFiles(root) if kind == "confined" else OpenFiles()
    key = "a" if kind == "confined" else str(root / "a")
    storage.write(key, b"old content")
    with storage.open(key) as reader:
        first = reader.read(4)
        storage.write(key, b"new")
        assert (first, reader.read(100), reader.read(100)) == (b"old ", b"content", b"")
        assert (reader.size, reader.current_version()) == (11, reader.version)
        with storage.open(key) as other:
            assert (other.size, other.read(100)) == (3, b"new")
            assert other.version != reader.version
    reader.close()


@pytest.mark.parametrize("change", ["append", "truncate", "overwrite"])
def test_a_reader_notices_that_its_file_is_written_into(change: str, root: Path):
    (root / "a").write_bytes(b"12345")
    os.utime(root / "a", (1, 1))
    with ConfinedFiles(root).open("a") as reader:
        with (root / "a").open("r+b") as file:
            file.seek(0, os.SEEK_END if change == "append" else os.SEEK_SET)
            if change == "truncate":
                file.truncate(3)
            else:
                file.write(b"x")
        assert reader.current_version() != reader.version


@pytest.mark.parametrize("key", ["none", "link", "."])
def test_looking_at_what_cannot_be_read_leaves_nothing_open(key: str, root: Path, outside: Path):
    (root / "link").symlink_to(outside / "secret")
    before = os.listdir("/dev/fd")  # noqa: PTH208 - descriptors, no files
    for _ in range(3):
        with contextlib.suppress(FileNotFoundError, PathRefusedError):
            ConfinedFiles(root).open(key)
    assert len(os.listdir("/dev/fd")) == len(before)  # noqa: PTH208 - see above


def test_the_storage_of_a_run_is_that_of_its_context(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYFLOW_STORAGE_ROOT", raising=False)
    assert isinstance(files.storage(), OpenFiles)
    monkeypatch.setenv("PYFLOW_STORAGE_ROOT", str(root))
    configured = files.storage()
    assert isinstance(configured, ConfinedFiles)
    assert (configured.root, configured.quota) == (root, None)
    tokens = files.current_root.set(root / "t1"), files.current_quota.set(5)
    try:
        of_the_run = files.storage()
        assert isinstance(of_the_run, ConfinedFiles)
        assert (of_the_run.root, of_the_run.quota) == (root / "t1", 5)
    finally:
        files.current_root.reset(tokens[0])
        files.current_quota.reset(tokens[1])
