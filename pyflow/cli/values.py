"""Values given on the command line: `--input`, `--mock` and the files they name."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyflow.cli.console import fail
from pyflow.core.errors import DocumentError
from pyflow.core.suspension import Signal
from pyflow.documents.reading import MAX_BYTES, decode, read_json, read_yaml


def read_input(given: Sequence[str], inputs: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The run's input from `--input` options, the later ones winning; ``None`` if there are none.

    ``KEY=VALUE``: the value is JSON where it is JSON, else text, and always text where ``inputs``, the workflow's JSON
    Schema of them, says ``string``. ``KEY=@FILE``: the content of a file. ``@FILE`` and ``-`` (standard input): a whole
    mapping.
    """
    if not given:
        return None
    merged: dict[str, Any] = {}
    for item in given:
        if item == "-" or item.startswith("@"):
            merged |= _mapping(item)
            continue
        key, equals, text = item.partition("=")
        if not equals or not key:
            fail(f"--input {item}: give KEY=VALUE, KEY=@FILE, @FILE or - (standard input)")
        merged[key] = _value(key, text, inputs)
    return merged


def read_mocks(given: Sequence[str]) -> dict[str, Any]:
    """The outputs from `--mock NODE=FILE` options, by NODE, which in a child run is WORKFLOW/NODE."""
    mocks: dict[str, Any] = {}
    for item in given:
        node_id, equals, file = item.partition("=")
        if not equals or not node_id or not file:
            fail(f"--mock {item}: give NODE=FILE, the file holding the node's output as JSON or YAML")
        mocks[node_id] = _read_data(Path(file), f"--mock {item}")
    return mocks


def read_signals(given: Sequence[str]) -> list[Signal]:
    """The signals from `--signal NAME=JSON` and `--signal NAME=@FILE` options; what is not JSON is text."""
    signals = []
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name:
            fail(f"--signal {item}: give NAME=JSON or NAME=@FILE")
        signals.append(Signal(name, read_value(text, f"--signal {name}")))
    return signals


def _mapping(source: str) -> dict[str, Any]:
    if source == "-":
        data = _parse(sys.stdin.read(MAX_BYTES + 1), "--input -", as_json=False)
    else:
        data = _read_data(Path(source[1:]), f"--input {source}")
    if not isinstance(data, dict):
        fail(f"--input {source}: the input is a mapping of names to values, not {_kind(data)}")
    return data


def _value(key: str, text: str, inputs: Mapping[str, Any] | None) -> Any:
    if not text.startswith("@") and _declared_type(inputs, key) == "string":
        return text
    return read_value(text, f"--input {key}")


def read_value(text: str, option: str) -> Any:
    """JSON, or else text; ``@FILE`` is the content of a file, ``@@`` begins text with an ``@``."""
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@"):
        return _read_any(Path(text[1:]), f"{option}={text}")
    try:
        return json.loads(text)
    except RecursionError:
        fail(f"{option}: nested too deeply")
    except ValueError as error:
        # What starts like a list or an object was meant as one.
        if text.startswith(("{", "[")):
            fail(f"{option}: not valid JSON: {error}")
        return text


def _declared_type(inputs: Mapping[str, Any] | None, key: str) -> object:
    properties = (inputs or {}).get("properties")
    schema = properties.get(key) if isinstance(properties, dict) else None
    return schema.get("type") if isinstance(schema, dict) else None


def _read_any(path: Path, option: str) -> Any:
    """Data of a JSON or YAML file, the text of any other."""
    if path.suffix.lower() in {".json", ".yaml", ".yml"}:
        return _read_data(path, option)
    try:
        return decode(_read_bytes(path, option))
    except DocumentError as error:
        fail(f"{option}: {error}")


def _read_data(path: Path, option: str) -> Any:
    try:
        text = decode(_read_bytes(path, option))
    except DocumentError as error:
        fail(f"{option}: {error}")
    return _parse(text, option, as_json=path.suffix.lower() == ".json")


def _read_bytes(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        fail(f"{option}: there is no file {path}")
    except IsADirectoryError:
        fail(f"{option}: {path} is a directory")
    except (OSError, ValueError) as error:
        fail(f"{option}: {path} cannot be read: {error}")


def _parse(text: str, option: str, *, as_json: bool) -> Any:
    try:
        return (read_json(text) if as_json else read_yaml(text)).data
    except DocumentError as error:
        fail(f"{option}: {error}")


def _kind(data: object) -> str:
    return {list: "a list", str: "text", type(None): "nothing"}.get(type(data), f"a {type(data).__name__}")
