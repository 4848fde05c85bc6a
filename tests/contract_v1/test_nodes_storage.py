"""v1's `storage` node."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pyflow.core.context import ExecutionContext
from pyflow.nodes.storage import StorageNode


async def run(path: object, **config: Any) -> object:
    return await StorageNode().execute({"path": str(path), **config}, ExecutionContext(workflow_name="w", run_id="r"))


async def test_a_missing_file_reads_as_an_empty_list(tmp_path: Path):
    assert await run(tmp_path / "none.json", action="read") == []
    assert await run(tmp_path / "no" / "folder.json") == []
    assert not (tmp_path / "no").exists()


async def test_what_was_written_can_be_read(tmp_path: Path):
    path = tmp_path / "a.json"
    assert await run(path, action="write", data={"ü": [1, None, 2.5]}) == {"ü": [1, None, 2.5]}
    assert json.loads(path.read_text("utf-8")) == {"ü": [1, None, 2.5]}
    assert await run(path, action="read") == {"ü": [1, None, 2.5]}


async def test_read_is_the_default(tmp_path: Path):
    (tmp_path / "a.json").write_text("[1]")
    assert await run(tmp_path / "a.json") == [1]


async def test_parents_are_created(tmp_path: Path):
    await run(tmp_path / "x" / "y" / "a.json", action="write", data=1)
    await run(tmp_path / "z" / "a.json", action="append", data=1)
    assert json.loads((tmp_path / "x/y/a.json").read_text()) == 1
    assert json.loads((tmp_path / "z/a.json").read_text()) == [1]


async def test_append_adds_one_element(tmp_path: Path):
    path = tmp_path / "log.json"
    for data in (1, {"n": 2}, [3, 4]):
        await run(path, action="append", data=data)
    assert await run(path) == [1, {"n": 2}, [3, 4]]


async def test_concurrent_appends_lose_nothing(tmp_path: Path):
    path = tmp_path / "log.json"
    await asyncio.gather(*(run(path, action="append", data=number) for number in range(100)))
    assert sorted(json.loads(path.read_text())) == list(range(100))


async def test_an_unknown_action_is_a_value_error(tmp_path: Path):
    with pytest.raises(ValueError, match="Unknown storage action: 'delete'"):
        await run(tmp_path / "a.json", action="delete")


async def test_a_missing_path_is_a_key_error():
    with pytest.raises(KeyError):
        await StorageNode().execute({"action": "read"}, ExecutionContext(workflow_name="w", run_id="r"))


async def test_a_relative_path_counts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    await run("data/../a.json", action="write", data=[])
    assert (tmp_path / "a.json").exists()


async def test_a_configured_root_confines_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYFLOW_STORAGE_ROOT", str(tmp_path / "root"))
    await run("a.json", action="write", data=1)
    assert (tmp_path / "root/a.json").exists()
    for path in ("../a.json", tmp_path / "a.json"):
        with pytest.raises(ValueError, match=r"step out|absolute"):
            await run(path, action="write", data=1)
