"""What is written is for its owner alone, whatever the umask: files 600, directories 700."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyflow.cli import app
from pyflow.cli.remote import store
from pyflow.net.files import ConfinedFiles, OpenFiles, current_root, make_private
from pyflow_site.environment import Environment, database, read_or_create
from pyflow_site.quickstart import _only_one
from tests.unit.nodes.web import node, run


@pytest.fixture(autouse=True, params=[0o000, 0o022, 0o077], ids=oct)
def umask(request) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(root: Path) -> set[str]:
    """The modes of everything below a directory, and of itself."""
    kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFSOCK: "s"}
    found = [path.lstat().st_mode for path in (root, *root.rglob("*"))]
    return {f"{kinds[stat.S_IFMT(mode)]}{stat.S_IMODE(mode):03o}" for mode in found}


def test_files_of_the_storage(tmp_path: Path):
    ConfinedFiles(tmp_path / "a" / "root").write("b/c/d.json", b"1")
    ConfinedFiles(tmp_path / "a" / "root").update("b/c/e.json", lambda _: b"1")
    assert modes(tmp_path / "a") == {"d700", "f600"}


def test_files_of_a_workflow_that_its_author_runs(tmp_path: Path):
    """Those that are new: a file that is replaced, and a directory that is there, keep their mode."""
    OpenFiles().write(str(tmp_path / "new" / "deep" / "f"), b"1")
    assert modes(tmp_path / "new") == {"d700", "f600"}
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "f").write_bytes(b"1")
    (shared / "f").chmod(0o640)
    OpenFiles().write(str(shared / "f"), b"2")
    assert modes(shared) == {"d755", "f640"}


async def test_databases_of_sql_nodes_and_their_journals(tmp_path: Path):
    token = current_root.set(tmp_path / "root")
    try:
        query = "create table t (x)"
        ended = await node("sql", {"url": "sqlite:///deep/x.db", "query": query, "read_only": False})
        assert ended.error is None
    finally:
        current_root.reset(token)
    with sqlite3.connect(tmp_path / "root" / "deep" / "x.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        assert modes(tmp_path / "root") == {"d700", "f600"}
        assert len(list((tmp_path / "root" / "deep").iterdir())) == 3
    connection.close()


def test_the_platform_s_database_and_its_journals(tmp_path: Path):
    settings = database(Environment(DATABASE_URL=f"sqlite:///{tmp_path / 'home' / 'deep' / 'db.sqlite3'}"))
    with sqlite3.connect(settings["NAME"]) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        assert modes(tmp_path / "home") == {"d700", "f600"}
    connection.close()


def test_keys_and_the_lock_of_the_quickstart(tmp_path: Path):
    home = tmp_path / "home" / "deep"
    read_or_create(home / "key", lambda: "secret")
    with _only_one(home, 8000):
        assert modes(tmp_path / "home") == {"d700", "f600"}


def test_what_the_command_line_writes(tmp_path: Path, monkeypatch):
    """A converted workflow may hold what its author wrote into it; profiles hold keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "deep" / "config"))
    store.save(store.Profiles(None, {}))
    assert modes(tmp_path / "home") == {"d700", "f600"}
    source, made = tmp_path / "v1.yaml", tmp_path / "made"
    source.write_text("name: old\ntrigger: {type: manual}\nnodes:\n  - {id: a, type: log, config: {message: hi}}\n")
    made.mkdir(mode=0o700)
    assert CliRunner().invoke(app, ["convert", str(source), "--output", str(made / "v2.yaml")]).exit_code == 0
    assert modes(made) == {"d700", "f600"}


async def test_an_isolated_node_makes_no_files(tmp_path: Path, monkeypatch):
    """Its process is spoken to over a pair of sockets, which has no name in the file system."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = await run({"id": "a", "type": "log", "config": {"message": "hi"}, "isolation": "process"})
    assert result.nodes["a"].error is None
    assert modes(tmp_path) == {"d700"}


def test_a_file_in_the_way_is_named(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            make_private(path)
