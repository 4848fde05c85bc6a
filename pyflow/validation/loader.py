"""Workflow files: read, parsed and validated, with the line and column of whatever is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from pyflow.core import document
from pyflow.core.document import Document, make_pointer
from pyflow.core.errors import DefinitionError, DocumentError, Problem, WorkflowNotFoundError
from pyflow.core.messages import show
from pyflow.core.misfits import rule_of
from pyflow.documents import reading
from pyflow.documents.models import NodeDef, PlacedError, RetryDef, SettingsDef, TriggerDef, UntilDef, WorkflowDef
from pyflow.documents.reading import decode, read_json, read_yaml
from pyflow.validation.checker import SECTIONS, check_count, check_graph, locate, suggest, unknown_keys

Format = Literal["yaml", "json"]


def load_workflow(path: Path | str) -> WorkflowDef:
    """Read one workflow file (YAML, or JSON by its ending).

    Raises ``FileNotFoundError``, ``DocumentError`` (not a document) or ``DefinitionError`` (not a workflow).
    """
    return parse_workflow(*read_source(path))


def read_source(path: Path | str) -> tuple[str, Format]:
    """The text of a workflow file and its format. Raises ``FileNotFoundError`` or ``DocumentError``."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(reading.MAX_BYTES + 1)
    except FileNotFoundError:
        raise WorkflowNotFoundError(f"No such workflow file: {path}") from None
    except IsADirectoryError:
        raise DocumentError(f"{path} is a directory; name a workflow file in it") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > reading.MAX_BYTES:
        raise DocumentError(f"{path} is larger than {reading.MAX_BYTES:,} bytes (1 MiB); no workflow is")
    return decode(raw), "json" if path.suffix == ".json" else "yaml"


def load_all_workflows(directory: Path | str) -> list[WorkflowDef]:
    """All ``*.yaml`` and ``*.yml`` files of a directory, sorted by name; none if it does not exist."""
    directory = Path(directory)
    if not directory.is_dir():
        return []
    return [load_workflow(path) for path in workflow_files(directory)]


def workflow_files(directory: Path) -> list[Path]:
    """The ``*.yaml`` and ``*.yml`` files of a directory, sorted; not pipes and devices, which may never end."""
    found = sorted(path for pattern in ("*.yaml", "*.yml") for path in directory.glob(pattern))
    return [path for path in found if path.is_file() or path.is_dir() or not path.exists()]


def parse_workflow(text: str, format: Format = "yaml") -> WorkflowDef:
    """Parse and validate the text of a workflow. Raises ``DocumentError`` or ``DefinitionError``."""
    parsed = read_json(text) if format == "json" else read_yaml(text, scalars=None)
    return build_workflow(parsed)


def build_workflow(parsed: Document) -> WorkflowDef:
    """Return the model of a parsed document. Raises ``DefinitionError`` with all problems found so far."""
    data = parsed.data
    if not isinstance(data, dict):
        kind = {list: "a list", str: "text", type(None): "nothing"}.get(type(data), f"a {type(data).__name__}")
        raise DefinitionError(
            locate([Problem("not_a_mapping", f"a workflow is a mapping with a name and nodes, not {kind}")], parsed)
        )
    if data.get("version", 1) != 1:
        # Before the model, which takes its time for each of them.
        sections = [data.get(name) for name in SECTIONS]
        if too_many := list(check_count(sum(len(nodes) for nodes in sections if isinstance(nodes, list)))):
            raise DefinitionError(locate(too_many, parsed))
    try:
        workflow = WorkflowDef.model_validate(data)
    except ValidationError as error:
        problems = list(_shape_problems(error))
        if data.get("version", 1) != 1:
            problems += _raw_problems(data)
        raise DefinitionError(locate(problems, parsed)) from None
    except RecursionError:
        raise DefinitionError([Problem("too_deep", "the workflow is nested too deeply")]) from None
    workflow._document = parsed
    return workflow


def _shape_problems(error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        reason = detail.get("ctx", {}).get("error")
        path = (*detail["loc"], *(reason.at if isinstance(reason, PlacedError) else ()))
        name = str(path[-1]) if path else ""
        message = "Field required" if detail["type"] == "missing" else rule_of(detail)
        if detail["type"] in {"literal_error", "enum"}:
            expected = str(detail.get("ctx", {}).get("expected", ""))
            choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
            yield Problem(
                "bad_value",
                f"{name}: {show(detail['input'])} is not one of {', '.join(choices)}",
                make_pointer(path),
                suggestion=suggest(str(detail["input"]), choices),
            )
            continue
        code = "missing" if detail["type"] == "missing" else "bad_value"
        yield Problem(code, f"{name}: {message}" if name and name not in message else message, make_pointer(path))


def _raw_problems(data: dict[str, Any]) -> Iterator[Problem]:
    """Return the problems of keys and graph in a version 2 document whose shape is wrong somewhere."""
    yield from _raw_keys(WorkflowDef, data, ())
    yield from _raw_keys(SettingsDef, data.get("settings"), ("settings",))
    triggers = data.get("triggers")
    for i, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
        yield from _raw_keys(TriggerDef, trigger, ("triggers", i))
    sections = []
    for name in SECTIONS:
        nodes = data.get(name)
        section = []
        for i, node in enumerate(nodes if isinstance(nodes, list) else ()):
            yield from _raw_keys(NodeDef, node, (name, i))
            if isinstance(node, dict):
                yield from _raw_keys(RetryDef, node.get("retry"), (name, i, "retry"))
                yield from _raw_keys(UntilDef, node.get("until"), (name, i, "until"))
                depends_on = node.get("depends_on")
                if isinstance(node.get("id"), str):
                    section.append(((name, i), node["id"], depends_on if isinstance(depends_on, list) else []))
        sections.append(section)
    yield from check_graph(2, sections)  # type: ignore[arg-type]


def _raw_keys(model: type[Any], value: object, path: document.Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        known = {field.alias or name for name, field in model.model_fields.items()}
        yield from unknown_keys(model, [key for key in value if key not in known], path)
