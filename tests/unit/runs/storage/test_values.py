"""Large values: what is stored, where, and what reading it makes sure of."""

import json
import os
import stat
import threading
import zlib
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from pyflow.core.ids import new_uuid
from runs.errors import ValueCorruptError, ValueMissingError
from runs.storage import values
from runs.storage.values import CHUNK, DirectoryStore, Owner, Reference, ValueStore
from tests.support import corpora

HERE = Owner(new_uuid(), new_uuid())
NAME = "ab" * 32


@pytest.fixture
def root(settings, tmp_path) -> Path:
    settings.PYFLOW_VALUES_ROOT = tmp_path / "values"
    settings.PYFLOW_LARGE_VALUE_BYTES = 1024
    return tmp_path / "values"


@pytest.fixture
def kept(root: Path) -> ValueStore:
    return values.store()


def put(value: object, owner: Owner = HERE) -> Reference:
    reference = values.put(owner, values.content_of(value))
    assert reference is not None
    return reference


def file_of(root: Path) -> Path:
    [found] = root.rglob("*.z")
    return found


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, list(range(5000)), {"ü": "€" * 3000, "n": None}, [2**200, -(2**70), 1.5, True], "" * 0, {}],
    ids=["text", "numbers", "unicode", "large integers", "empty text", "empty"],
)
def test_a_value_comes_back_as_it_was(root, value):
    reference = put(value)
    assert values.load(HERE, reference) == value
    with closing(values.stream(HERE, reference)) as pieces:
        assert b"".join(pieces) == values.content_of(value)


def test_a_small_value_stays_where_it_is(root):
    assert values.outsource(HERE, "x" * 1022) == ("x" * 1022, None)
    inline, reference = values.outsource(HERE, "x" * 1023)
    assert inline is None
    assert values.load(HERE, reference) == "x" * 1023


def test_it_is_stored_compressed_and_once(root):
    assert put("x" * 1_000_000) == put("x" * 1_000_000)
    assert file_of(root).stat().st_size < 10_000


def test_another_run_and_another_tenant_have_none_of_it(root):
    reference = put("x" * 5000)
    for other in (Owner(HERE.tenant_id, new_uuid()), Owner(new_uuid(), HERE.run_id)):
        with pytest.raises(ValueMissingError):
            values.load(other, reference)


def test_files_are_for_this_user_only(root):
    put("x" * 5000)
    path = file_of(root)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    directory = path.parent
    while directory != root.parent:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        directory = directory.parent


@pytest.mark.parametrize("name", ["", "..", "../" * 20 + "etc/passwd", "AB" * 32, "ab" * 33, f"{NAME}\n", "a/b", "\0"])
def test_no_name_leads_anywhere_else(root, kept, name):
    put("x" * 5000)
    for act in (
        lambda: kept.open(HERE, name),
        lambda: kept.put(HERE, name, b""),
        lambda: kept.delete(HERE, name),
        lambda: kept.copy(HERE, HERE, name),
        lambda: values.load(HERE, Reference(name, 1)),
    ):
        with pytest.raises(ValueCorruptError):
            act()


@pytest.mark.parametrize("recorded", [{}, {"sha256": 7}, {"sha256": NAME, "size": "1"}, [], "x", 1])
def test_what_is_no_reference_reads_as_damaged_or_missing(root, recorded):
    reference = Reference.of(recorded)
    assert reference is not None
    with pytest.raises((ValueCorruptError, ValueMissingError)):
        values.load(HERE, reference)


def test_links_are_not_followed(root, tmp_path):
    reference = put("x" * 5000)
    path = file_of(root)
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        values.load(HERE, reference)


def damaged(blob: bytes) -> dict[str, bytes]:
    other = zlib.compress(values.content_of("y" * 200_000))
    return {
        "cut": blob[: len(blob) // 2],
        "empty": b"",
        "another value": other,
        "longer": zlib.compress(values.content_of("x" * 200_001)),
        "a flipped bit": blob[:-1] + bytes([blob[-1] ^ 1]),
        "no zlib": b"hello" * 100,
    }


@pytest.mark.parametrize("how", sorted(damaged(b"x" * 100)))
def test_a_damaged_value_is_refused_and_nobody_gets_all_of_it(root, how):
    reference = put("x" * 200_000)
    path = file_of(root)
    path.write_bytes(damaged(path.read_bytes())[how])
    with pytest.raises(ValueCorruptError):
        values.load(HERE, reference)
    got: list[bytes] = []
    with closing(values.stream(HERE, reference)) as pieces, pytest.raises(ValueCorruptError):
        got.extend(pieces)
    assert sum(map(len, got)) < reference.size


def test_a_file_that_swells_is_read_no_further_than_the_value_was_long(root):
    reference = put("x" * 5000)
    file_of(root).write_bytes(zlib.compress(b"0" * 50_000_000))
    with closing(values.stream(HERE, reference)) as pieces, pytest.raises(ValueCorruptError):
        assert sum(map(len, pieces)) <= CHUNK


def test_a_write_that_fails_leaves_nothing_and_keeps_the_value_in_the_row(root, monkeypatch, caplog):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert values.outsource(HERE, "x" * 5000) == ("x" * 5000, None)
    assert [path for path in root.rglob("*") if path.is_file()] == []
    assert "No space left on device" in caplog.text


def test_what_is_being_written_is_not_there_yet(root, monkeypatch):
    seen: list[list[str]] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.append([path.name for path in root.rglob("*.z")])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    put("x" * 5000)
    # After the file itself was made durable it is moved to its name, and then that is made durable.
    assert [len(names) for names in seen][-2:] == [0, 1]


def test_many_store_the_same_at_once(root):
    together = threading.Barrier(8)
    found: list[Reference] = []

    def work() -> None:
        together.wait(30)
        found.append(put("x" * 100_000))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert values.load(HERE, found[0]) == "x" * 100_000
    assert [path for path in root.rglob(".*") if path.is_file()] == []


def test_copies_are_values_of_their_own(root, kept):
    reference, copy = put("x" * 5000), Owner(HERE.tenant_id, new_uuid())
    kept.copy(HERE, copy, reference.sha256)
    kept.delete_all(HERE)
    assert values.load(copy, reference) == "x" * 5000
    with pytest.raises(ValueMissingError):
        kept.copy(HERE, copy, reference.sha256)


def test_runs_with_values_are_listed_and_strange_names_are_not(root, kept):
    other = Owner(new_uuid(), new_uuid())
    assert list(kept.owners()) == []
    put("x" * 5000)
    put("y" * 5000, other)
    (root / "lost+found").mkdir()
    (root / str(HERE.tenant_id) / "zz").mkdir()
    (root / str(HERE.tenant_id) / "zz" / "notes").touch()
    assert {owner for owner, _ in kept.owners()} == {HERE, other}
    assert [owner for owner, _ in kept.owners(other.tenant_id)] == [other]
    kept.delete_all(other)
    kept.delete_all(other)
    assert {owner for owner, _ in kept.owners()} == {HERE}


def test_deleting_one_leaves_the_others(root, kept):
    one, two = put("x" * 5000), put("y" * 5000)
    kept.delete(HERE, one.sha256)
    kept.delete(HERE, one.sha256)
    assert values.load(HERE, two) == "y" * 5000
    with pytest.raises(ValueMissingError):
        values.load(HERE, one)


@corpora.each("path_traversal")
def test_no_hostile_path_is_a_name(root, kept, case):
    with pytest.raises(ValueCorruptError):
        kept.open(HERE, corpora.text(case))


def test_ids_are_ids():
    with pytest.raises(ValueError, match="badly formed"):
        Owner(UUID("../.."), new_uuid())


def test_the_store_of_the_platform_is_a_directory(root, kept):
    assert isinstance(kept, DirectoryStore)
    assert json.dumps(put([1] * 1000).as_dict())
