"""Writes a converted workflow as YAML that people like to read, with the comments of its source."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from pyflow.core.document import Document, Path
from pyflow.core.errors import DocumentError
from pyflow.documents.reading import read_yaml

FLOW_WIDTH = 90
# PyYAML quotes what YAML 1.1 would misread; these are numbers in 1.2.
_NUMBER = re.compile(r"0o[0-7]+|0x[0-9A-Fa-f]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = None
    if "\n" in value:
        style = "|"
    elif _NUMBER.fullmatch(value) or (set(value) & {"{", "'"} and not set(value) & {'"', "\\"} and value.isprintable()):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _is_short(value: Mapping[str, Any] | Sequence[Any]) -> bool:
    items = list(value.values()) if isinstance(value, Mapping) else list(value)
    if any(isinstance(item, dict | list) and item for item in items):
        return False
    return "\\n" not in repr(value) and len(repr(value)) <= FLOW_WIDTH


def _mapping(dumper: _Dumper, value: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=_is_short(value))


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=_is_short(value))


_Dumper.add_representer(str, _text)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def write_yaml(data: Mapping[str, Any], comments: Mapping[str | int | None, Sequence[str]]) -> str:
    """The text of a workflow. ``comments``: those above a top-level key, a node (by its new index), or at the end."""
    blocks: list[str] = []
    for key, value in data.items():
        head = "".join(f"{line}\n" for line in comments.get(key, ()))
        if key == "nodes" and value:
            blocks.append(f"\n{head}nodes:\n" + "\n".join(_nodes(value, comments)))
        else:
            blocks.append(head + _dump({key: value}))
    blocks += [f"{line}\n" for line in comments.get(None, ())]
    text = "".join(blocks)
    if read_yaml(text).data == data:
        return text
    # JSON is YAML, too, and leaves nothing to misread.
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _nodes(value: Sequence[Mapping[str, Any]], comments: Mapping[Any, Sequence[str]]) -> Iterator[str]:
    for index, node in enumerate(value):
        head = "".join(f"  {line}\n" for line in comments.get(index, ()))
        lines = _dump(dict(node)).splitlines()
        marks = ["  - ", *["    "] * len(lines)]
        # An empty line within a block of text stays empty.
        yield head + "".join(f"{mark}{line}".rstrip() + "\n" for mark, line in zip(marks, lines, strict=False))


def _dump(value: dict[str, Any]) -> str:
    return str(yaml.dump(_Block(value), Dumper=_Dumper, allow_unicode=True, width=sys.maxsize, sort_keys=False))


class _Block(dict[str, Any]):
    """A mapping with each key on a line of its own."""


_Dumper.add_representer(
    _Block, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=False)
)


# --- scalars -----------------------------------------------------------------------------------------------------


def plain_scalars(source: str) -> Iterator[tuple[Path, str]]:
    """The values of a document that are written without quotes, with their paths."""
    root = yaml.compose(source, Loader=yaml.CSafeLoader)
    if root is not None:
        yield from _plain_scalars(root, ())


def _plain_scalars(node: yaml.Node, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(node, yaml.ScalarNode):
        if not node.style:
            yield path, node.value
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _plain_scalars(item, (*path, index))
    else:
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                yield from _plain_scalars(value, (*path, key.value))


def read_core(text: str) -> Any:
    """Return the value of a plain scalar in YAML 1.2; text where it has no place in a workflow (infinity)."""
    if not text:
        return None
    try:
        return read_yaml(text).data
    except DocumentError:
        return text


# --- comments ----------------------------------------------------------------------------------------------------


def comments_of(document: Document) -> dict[str | int | None, list[str]]:
    """The comments of a YAML document by where they belong: a top-level key, a node's index, or ``None``, the end.

    A comment inside of a node is moved above it.
    """
    starts = _starts(document)
    found: dict[str | int | None, list[str]] = {}
    pending: list[tuple[int, str]] = list(_comments(document.source))
    lines = document.source.split("\n")
    for line, text in pending:
        found.setdefault(_owner(line, lines, starts), []).append(text)
    return found


def _starts(document: Document) -> list[tuple[int, str | int]]:
    """The first line (from 1) of each top-level key and node, ascending."""
    tops = [(at[0], path[0]) for path, at in document.positions.items() if len(path) == 1]
    members = [(at[0], path[1]) for path, at in document.positions.items() if len(path) == 2 and path[0] == "nodes"]
    return sorted([*tops, *members], key=lambda start: start[0])


def _owner(line: int, lines: Sequence[str], starts: Sequence[tuple[int, str | int]]) -> str | int | None:
    if lines[line - 1].lstrip().startswith("#"):
        following = line
        while following < len(lines) and lines[following].strip()[:1] in {"", "#"}:
            following += 1
        for start, name in starts:
            if start == following + 1:
                return name
        if following >= len(lines):
            return None
    inside = [name for start, name in starts if start <= line]
    return inside[-1] if inside else (starts[0][1] if starts else None)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """``(line, "# text")`` of each comment: what begins with '#' after white space and is in no scalar."""
    try:
        tokens = list(yaml.scan(source, Loader=yaml.SafeLoader))
    except yaml.YAMLError:  # libyaml is more generous about odd characters
        return
    spans = [(t.start_mark.index, t.end_mark.index) for t in tokens if isinstance(t, yaml.ScalarToken)]
    at, past = 0, 0
    for match in re.finditer(r"(?:^|(?<=\s))#", source):
        start = match.start()
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if start < past or (at < len(spans) and spans[at][0] <= start):
            continue
        end = source.find("\n", start)
        past = len(source) if end < 0 else end
        yield source.count("\n", 0, start) + 1, source[start:past].rstrip()
