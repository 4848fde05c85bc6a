"""Reads YAML and JSON from strangers: bounded, without tags or tricks, with the line and column of every value.

v2 documents use the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): ``on``, ``no`` and ``12:30``
are text. v1 files keep the YAML 1.1 meaning they always had.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from pyflow.core.document import Document, Path, Scalars
from pyflow.core.errors import DocumentError, DocumentTooLargeError
from pyflow.core.messages import MAX_SHOWN, cut, masked, show
from pyflow.core.wording import yaml_reason

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 150_000
#: A document may repeat itself by aliases, up to this many values once they are expanded.
MAX_ALIASED_VALUES = 10_000
MAX_INTEGER_DIGITS = 400
#: ``%YAML`` and ``%TAG`` lines: libyaml compares each with all before it.
MAX_DIRECTIVES = 16


_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_OCT = re.compile(r"0o[0-7]+", re.ASCII)
_HEX = re.compile(r"0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CORE_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))
_DIRECTIVE = re.compile(r"(?:^|[\n\r\x85\u2028\u2029])%")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# What YAML 1.1 makes of plain scalars besides; v1 files rely on it.
_V1_TAGS = _CORE_TAGS | {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"}


def decode(raw: bytes) -> str:
    """Bytes as text: UTF-8, with or without a byte order mark. ``DocumentError`` otherwise or above 1 MiB."""
    if len(raw) > MAX_BYTES:
        # Readers stop one byte beyond the limit, so how large it really is is not known here.
        raise DocumentTooLargeError(f"the document is larger than {MAX_BYTES:,} bytes (1 MiB)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"the document is not UTF-8 text (byte {error.start} cannot be decoded)") from None


def read_yaml(text: str, *, scalars: Scalars | None = "1.2") -> Document:
    """Parse one YAML document.

    ``scalars=None`` chooses by the document: 1.2 with a top-level ``version: 2``, else 1.1. Raises ``DocumentError``
    with line and column for bad syntax, more than one document, tags, duplicate or non-text keys, NUL or surrogate
    characters, and anything beyond the limits above.
    """
    _check_text(text)
    text = text.removeprefix("\ufeff")
    if sum(1 for _ in _DIRECTIVE.finditer(text)) > MAX_DIRECTIVES:
        raise DocumentError(f"more than {MAX_DIRECTIVES} lines that begin with '%'")
    with _no_collection():
        return _read_yaml(text, scalars)


def _read_yaml(text: str, scalars: Scalars | None) -> Document:
    try:
        tag = _scan(text)
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise DocumentError(f"not valid YAML: {yaml_reason(error, text)}", line=line, column=column) from None
    except yaml.YAMLError as error:
        raise DocumentError(f"not valid YAML: {error}") from None
    if root is None:
        raise DocumentError("the document is empty")
    scalars = scalars or _scalars_of(root)
    if tag is not None and scalars == "1.2":
        line, column = tag.start_mark.line + 1, tag.start_mark.column + 1
        raise DocumentError(f"tags are not allowed, such as {_tag(tag.tag)}", line=line, column=column)
    builder = _Builder(scalars)
    return Document(builder.build(root, ()), builder.positions, text)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """A document grows and leaves no garbage; looking for some all the while takes two thirds as long again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_json(text: str) -> Document:
    """Parse JSON strictly (RFC 8259): no duplicate keys, NaN, Infinity, NUL, lone surrogates or trailing data."""
    _check_text(text)
    text = text.removeprefix("\ufeff")
    _check_json_depth(text)
    try:
        data = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise DocumentError(f"not valid JSON: {error.msg}", line=error.lineno, column=error.colno) from None
    except RecursionError:
        raise DocumentError(f"nested deeper than {MAX_DEPTH} levels") from None
    _check_tree(data)
    return Document(data, {}, text)


def _check_text(text: str) -> None:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise DocumentTooLargeError(f"the document has {size:,} bytes; at most {MAX_BYTES:,} (1 MiB) are accepted")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DocumentError("the document holds a NUL character; is it a binary file?", line=line, column=1)
    if not text.isascii() and (half := _SURROGATE.search(text)) is not None:
        line = text.count("\n", 0, half.start()) + 1
        column = half.start() - text.rfind("\n", 0, half.start())
        raise DocumentError("the document holds a lone surrogate character", line=line, column=column)


def _scan(text: str) -> Any:
    """Look at the event stream first: libyaml's composer recurses, and crashes the process on deep nesting.

    Returns the first event with a tag that is written out, if any.
    """
    tagged: Any = None
    depth = values = documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        kind = type(event)
        if kind is yaml.ScalarEvent or kind is yaml.AliasEvent:
            values += 1
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            values += 1
            depth += 1
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            depth -= 1
        elif kind is yaml.DocumentStartEvent:
            documents += 1
        if tagged is None and getattr(event, "tag", None) is not None:
            tagged = event
        line, column = _where(event)
        if depth > MAX_DEPTH:
            raise DocumentError(f"nested deeper than {MAX_DEPTH} levels", line=line, column=column)
        if values > MAX_VALUES:
            raise DocumentError(f"more than {MAX_VALUES:,} values", line=line, column=column)
        if documents > 1:
            raise DocumentError("more than one document in one file", line=line, column=column)
    return tagged


def _where(event: yaml.Event) -> tuple[int | None, int | None]:
    mark = event.start_mark
    return (None, None) if mark is None else (mark.line + 1, mark.column + 1)


def _scalars_of(root: yaml.Node) -> Scalars:
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if isinstance(key, yaml.ScalarNode) and key.value == "version" and isinstance(value, yaml.ScalarNode):
                return "1.2" if value.value.strip() in {"2", "2.0"} else "1.1"
    return "1.1"


class _Builder:
    """Makes plain values of composed nodes, noting where each stood."""

    def __init__(self, scalars: Scalars) -> None:
        self._scalars = scalars
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._aliased = 0
        self._inside_alias = 0
        self._v1 = yaml.constructor.SafeConstructor()
        self.positions: dict[Path, tuple[int, int]] = {}

    def build(self, node: yaml.Node, path: Path) -> Any:
        mark = node.start_mark
        self.positions[path] = (mark.line + 1, mark.column + 1)
        if len(path) > MAX_DEPTH:
            raise self._error(node, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(node, yaml.ScalarNode):
            self._count_aliased(node)
            return self._scalar(node)
        identity = id(node)
        if identity in self._open:
            raise self._error(node, "an alias refers to the value it stands in")
        again = identity in self._seen
        self._seen.add(identity)
        self._open.add(identity)
        self._inside_alias += again
        self._count_aliased(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                self._check_tag(node, "tag:yaml.org,2002:seq")
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._open.discard(identity)
            self._inside_alias -= again

    def _count_aliased(self, node: yaml.Node) -> None:
        if self._inside_alias:
            self._aliased += 1
            if self._aliased > MAX_ALIASED_VALUES:
                raise self._error(node, f"aliases expand to more than {MAX_ALIASED_VALUES:,} values")

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        self._check_tag(node, "tag:yaml.org,2002:map")
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        merges = False
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge" and not key_node.style:
                if merges and self._scalars == "1.2":
                    raise self._error(key_node, "the key '<<' stands here a second time; give it a list")
                merges = True
                for part in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(part, yaml.MappingNode):
                        raise self._error(value_node, "`<<` merges mappings only")
                    for key, value in self.build(part, (*path, "<<")).items():
                        merged.setdefault(key, value)
                continue
            key = self._key(key_node)
            if key in own:
                raise self._error(key_node, f"the key {key!r} stands here a second time")
            own[key] = self.build(value_node, (*path, key))
            # A complaint about a key's value reads best at the key.
            self.positions[(*path, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        return merged | own

    def _key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node)
            if isinstance(value, str):
                return value
            if self._scalars == "1.1" and isinstance(value, bool | int | float):
                # `on:` and `200:` were keys that v1 accepted; JSON, where runs are stored, has text keys only.
                return str(node.value)
        if isinstance(node, yaml.MappingNode):
            raise self._error(node, "a value that begins with '{{' is read as a mapping: put quotes around the value")
        raise self._error(node, "a key must be text; put quotes around it")

    def _check_tag(self, node: yaml.Node, expected: str) -> None:
        if node.tag != expected:
            raise self._error(node, f"the tag {_tag(node.tag)} is not allowed")

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            raise self._error(node, "text may not hold NUL or lone surrogate characters")
        implicit = not node.style  # libyaml's way to say "plain" is an empty text
        if node.tag not in _V1_TAGS or (not implicit and node.tag not in _CORE_TAGS):
            raise self._error(node, f"the tag {_tag(node.tag)} is not allowed")
        try:
            if not implicit:
                return text if node.tag == "tag:yaml.org,2002:str" else self._number(self._v1_value(node))
            if self._scalars == "1.1":
                return self._number(self._v1_value(node))
            return self._number(_core_scalar(text))
        except (ValueError, OverflowError) as error:
            raise self._error(node, str(error)) from None
        except (LookupError, TypeError, AttributeError):
            # PyYAML's constructors trust the tag: `!!bool maybe`, `!!int ""`.
            raise self._error(node, f"{show(text)} does not fit the tag {_tag(node.tag)}") from None

    def _v1_value(self, node: yaml.ScalarNode) -> Any:
        if node.tag in {"tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"}:
            return node.value
        if len(node.value) > MAX_INTEGER_DIGITS and node.tag.endswith((":int", ":float")):
            raise ValueError(f"a number of more than {MAX_INTEGER_DIGITS} digits")
        return self._v1.construct_object(node)

    @staticmethod
    def _number(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("infinity and NaN have no place in a workflow")
        return value

    @staticmethod
    def _error(node: yaml.Node, message: str) -> DocumentError:
        return DocumentError(message, line=node.start_mark.line + 1, column=node.start_mark.column + 1)


def _tag(tag: str) -> str:
    return cut(masked(tag.replace("tag:yaml.org,2002:", "!!")), MAX_SHOWN)


def _core_scalar(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if len(text) > MAX_INTEGER_DIGITS:
        if any(pattern.fullmatch(text) for pattern in (_INT, _OCT, _HEX, _FLOAT)):
            raise ValueError(f"a number of more than {MAX_INTEGER_DIGITS} digits")
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OCT.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("infinity and NaN have no place in a workflow")
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value] # adds
        raise DocumentError(f"the key {twice!r} stands twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise DocumentError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise DocumentError(f"a number of more than {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text) if len(text) <= MAX_INTEGER_DIGITS else math.inf
    if not math.isfinite(value):
        raise DocumentError(f"the number {cut(masked(text), MAX_SHOWN)} is too large")
    return value


# A string, closed or not: looking for the end of an open one again and again would take quadratic time.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _check_json_depth(text: str) -> None:
    """Nesting, counted without recursion before the parser recurses."""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        char = match[0][0]
        depth += char in "[{"
        depth -= char in "]}"
        if depth > MAX_DEPTH:
            raise DocumentError(f"nested deeper than {MAX_DEPTH} levels")


def _check_tree(data: Any) -> None:
    stack, values = [data], 0
    while stack:
        value = stack.pop()
        values += 1
        if values > MAX_VALUES:
            raise DocumentError(f"more than {MAX_VALUES:,} values")
        if isinstance(value, str):
            if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
                raise DocumentError("text may not hold NUL or lone surrogate characters")
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            stack.extend(value.keys())
            stack.extend(value.values())
