"""Checks a node's config against the model of its type before its templates are rendered.

What a template will give is not known yet. An error that could depend on it is held back until the node runs, every
other one is reported now: a wrong number next to a template, and also what a model's own validators say, as far as they
come to it whatever the templates give (``pyflow.validation.config_rules``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pyflow.core.document import Path, make_pointer
from pyflow.core.errors import Problem
from pyflow.core.misfits import choose
from pyflow.core.node import AnyNodeClass
from pyflow.core.problems import suggest
from pyflow.expressions.template import template_strings
from pyflow.validation.config_rules import broken_rules, models_of

#: A list is no mapping and a mapping is no text, whatever the templates in it give.
_SHAPE_ERRORS = frozenset({"too_short", "too_long", "literal_error", "enum"})


def check_config(cls: AnyNodeClass, config: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Return the certain problems of the ``config`` of a node of this class; ``path`` is its place."""
    model = _model_of(cls)
    if model is not None:
        yield from check_fields(model, config, path)


def check_fields(model: type[BaseModel], config: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Return the certain problems of a config against its model; ``path`` is its place."""
    if model.model_config.get("extra") != "allow":
        known = _field_names(model)
        for key in config:
            if key not in known:
                yield _unknown_key((*path, key), suggest(key, known))
    yield from _field_problems(model, config, path)
    if _holds_template(config):
        for at, message in broken_rules(model, config):
            yield Problem("bad_config", message, make_pointer((*path, *at)))


def doubts(cls: AnyNodeClass, config: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """Return the problems of a config unless one of its templates gives nothing, with their places."""
    model = _model_of(cls)
    if model is None or not _holds_template(config):
        return []
    return list(broken_rules(model, config, certain=False))


def _model_of(cls: AnyNodeClass) -> type[BaseModel] | None:
    model = getattr(cls, "Config", None) or getattr(cls, "config_model", None)
    # v1 classes may use these names for something else.
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _field_names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()} | set(model.model_fields)


def _unknown_key(path: Path, near: str | None) -> Problem:
    return Problem("unknown_key", f"unknown key {path[-1]!r}", make_pointer(path), suggestion=near)


def _field_problems(model: type[BaseModel], config: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    try:
        model.model_validate(config)
    except ValidationError as error:
        details = error.errors(include_url=False)
    else:
        return
    placed = [(_existing(config, detail["loc"]), detail) for detail in details]
    held = {at for at, detail in placed if _may_depend(_value_at(config, at), detail)}
    certain = [detail for at, detail in placed if not _may_go_away(at, detail, held)]
    for misfit in choose(certain, config):
        at = misfit.at
        if misfit.kind == "extra_forbidden":
            if len(at) > 1:  # the others are reported by name
                yield _unknown_key((*path, *at), suggest(str(at[-1]), _names_around(model, at)))
        elif misfit.kind == "missing":
            yield Problem("bad_config", f"{misfit.detail['loc'][-1]!r} is required", make_pointer((*path, *at)))
        else:
            yield Problem("bad_config", misfit.rule, make_pointer((*path, *at)))


def _may_go_away(at: Path, detail: ErrorDetails, held: set[Path]) -> bool:
    """Return whether the error is held back, or another member of a union may yet take the value."""
    if detail["type"] in {"missing", "extra_forbidden"}:
        return at in held
    return any(other[: len(at)] == at for other in held)


def _may_depend(value: Any, detail: ErrorDetails) -> bool:
    """Return whether the error could go away with what the templates in ``value`` give."""
    kind = detail["type"]
    if kind in {"missing", "extra_forbidden"} or not _holds_template(value):
        return False
    return isinstance(value, str) or not (kind.endswith("_type") or kind in _SHAPE_ERRORS)


def _existing(value: Any, loc: tuple[int | str, ...]) -> Path:
    """The part of a pydantic location that is in the document (unions add steps of their own)."""
    path: list[str | int] = []
    for step in loc:
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]  # type: ignore[index]
            path.append(step)
    return tuple(path)


def _value_at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _names_around(model: type[BaseModel], at: Path) -> set[str]:
    """The field names of the models that may stand where the last step of ``at`` is a key."""
    models = [model]
    for step in at[:-1]:
        if isinstance(step, str):
            fields = [
                field for each in models for name, field in each.model_fields.items() if step in (name, field.alias)
            ]
            models = [found for field in fields for found in models_of(field.annotation)]
    return {name for each in models for name in _field_names(each)}


def _holds_template(value: Any) -> bool:
    return any(True for _ in template_strings(value))
