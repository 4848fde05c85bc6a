"""Runs the validators of a config model while some of its values are still templates.

Such a validator is called with a stand-in for the model, whose templated fields are unknown values: one can be compared
with ``None``, ``True`` and ``False``, any other look at it ends the attempt. Since a template may give these, too, each
field that the validator looked at is tried as each of them that it may be. A rule is broken only if the validator
refuses every one of these combinations.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pyflow.core.document import Path
from pyflow.expressions.template import is_template, template_strings

#: Combinations of values that are tried before a rule counts as undecided.
MAX_ATTEMPTS = 64
#: Stands for all templates below a field's own value.
_INNER = ""
#: What code looks for by identity.
_SINGLE = (None, True, False)
#: Names of fields, and what their templates are taken to give.
_Given = frozenset[tuple[str, bool | None]]


class _UndecidedError(BaseException):
    """The validator looked at a value that nobody knows yet. Not an ``Exception``: the validator shall not catch it."""


class _Unknown:
    """A value that is not ``None``, and of which nothing else is known."""

    __slots__ = ()

    def _look(self, *_: object) -> Any:
        raise _UndecidedError

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _look
    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = __getattr__ = _look
    __hash__ = __int__ = __float__ = __index__ = __str__ = __format__ = __repr__ = _look
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __or__ = __ror__ = _look
    # `isinstance` asks for it.
    __class__ = property(_look)


class _StandIn:
    """Looks like an instance of ``model`` with the values of ``raw``, as far as ``given`` says what templates give."""

    __slots__ = ("_given", "_model", "_raw", "_read")

    def __init__(self, model: type[BaseModel], raw: Mapping[str, Any], given: _Given) -> None:
        self._model = model
        self._raw = raw
        self._given = dict(given)
        #: What could be tried for the fields with templates that were looked at.
        self._read: set[tuple[str, bool | None]] = set()

    def _claimed(self) -> type[BaseModel]:
        return self._model

    # `isinstance` asks for it.
    __class__ = property(_claimed)

    def __getattr__(self, name: str) -> Any:
        field = self._model.model_fields.get(name)
        if field is not None:
            return self._value(name, field)
        if name == "model_fields_set":
            return {known for known, field in self._model.model_fields.items() if _key_of(known, field, self._raw)}
        found = inspect.getattr_static(self._model, name)
        return found.__get__(self, self._model) if hasattr(found, "__get__") else found

    def _value(self, name: str, field: FieldInfo) -> Any:
        key = _key_of(name, field, self._raw)
        if key is None:
            if field.is_required():
                raise _UndecidedError  # which is reported by itself
            return field.get_default(call_default_factory=True)
        raw = self._raw[key]
        if not _holds_template(raw):
            try:
                return _adapter(self._model, name).validate_python(raw)
            except ValidationError:
                raise _UndecidedError from None  # which is reported by itself
        if any(isinstance(kind, type) and issubclass(kind, Enum) for kind in _members(field.annotation)):
            raise _UndecidedError  # members are compared by identity
        if not isinstance(raw, str):
            self._read.add((_INNER, None))
            return _unknown_inside(field.annotation, raw, nulls=_INNER in self._given)
        if _is_whole(raw):
            self._read.update((name, single) for single in _singles(self._model, name))
        return self._given[name] if name in self._given else _Unknown()


def broken_rules(
    model: type[BaseModel], config: Mapping[str, Any], *, certain: bool = True
) -> Iterator[tuple[Path, str]]:
    """The messages of the validators that refuse ``config`` whatever its templates give, with the models' places.

    Not ``certain``: of those that refuse it unless a template gives nothing (``null``), or a truth value.
    """
    for validator in model.__pydantic_decorators__.model_validators.values():
        if validator.info.mode != "after" or len(inspect.signature(validator.func).parameters) != 1:
            return  # what it makes of the data is not known
    for validator in model.__pydantic_decorators__.model_validators.values():
        message = _refusal(validator.func, model, config, certain=certain)
        if message is not None:
            yield (), message
            break  # pydantic stops there, too
    for name, field in model.model_fields.items():
        key = _key_of(name, field, config)
        if key is not None and _holds_template(config[key]):
            for at, inner, raw in _models_within(field.annotation, config[key]):
                yield from (
                    ((key, *at, *deeper), message) for deeper, message in broken_rules(inner, raw, certain=certain)
                )


def _refusal(validator: Any, model: type[BaseModel], config: Mapping[str, Any], *, certain: bool) -> str | None:
    """Return the validator's reason for refusing the config in every case or, unless ``certain``, in the first one."""
    first: str | None = None
    todo: list[_Given] = [frozenset()]
    seen = set(todo)
    while todo:
        given = todo.pop()
        stand_in = _StandIn(model, config, given)
        try:
            validator(stand_in)
        except (ValueError, AssertionError) as error:
            first = first or str(error)
        except (_UndecidedError, Exception):  # noqa: BLE001 - a validator may do anything with what is no model
            return None if certain else first
        else:
            return None if certain else first
        decided = {name for name, _ in given}
        more = {given | {one} for one in stand_in._read if one[0] not in decided} - seen
        if len(seen) + len(more) > MAX_ATTEMPTS:
            return None if certain else first
        seen |= more
        todo += more
    return first if certain else None


# --- values ------------------------------------------------------------------------------------------------------


def _key_of(name: str, field: FieldInfo, raw: Mapping[str, Any]) -> str | None:
    """The key under which a field is given, if it is."""
    return next((key for key in (field.alias, name) if key is not None and key in raw), None)


@lru_cache(maxsize=1024)
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    field = model.model_fields[name]
    kind: Any = field.annotation
    for part in field.metadata:
        kind = Annotated[kind, part]
    return TypeAdapter(kind)


@lru_cache(maxsize=1024)
def _singles(model: type[BaseModel], name: str) -> tuple[bool | None, ...]:
    """Return which of ``None``, ``True`` and ``False`` the field may be."""
    accepted = []
    for single in _SINGLE:
        try:
            value = _adapter(model, name).validate_python(single)
        except ValidationError:
            continue
        if value is single:
            accepted.append(single)
    return tuple(accepted)


def _holds_template(value: Any) -> bool:
    return any(True for _ in template_strings(value))


def _is_whole(text: str) -> bool:
    """Return whether a template may give anything; in the middle of a text it gives text."""
    return text.startswith("{{") and text.endswith("}}")


def _unknown_inside(annotation: Any, raw: Any, *, nulls: bool) -> Any:
    """A value with templates in it: of a mapping the keys are known, of a list the length."""
    models = list(_models_within(annotation, raw))
    if len(models) == 1 and models[0][0] == ():
        _, model, inner = models[0]
        return _StandIn(model, inner, frozenset((name, None) for name in (*model.model_fields, _INNER) if nulls))
    plain = {dict: isinstance(raw, dict), list: isinstance(raw, list), Any: True}
    if not any(plain.get(get_origin(kind) or kind, False) for kind in _members(annotation)) or models_of(annotation):
        return _Unknown()
    return _blank(raw, nulls=nulls)


def _blank(value: Any, *, nulls: bool) -> Any:
    if isinstance(value, dict):
        return {key: _blank(item, nulls=nulls) for key, item in value.items()}
    if isinstance(value, list):
        return [_blank(item, nulls=nulls) for item in value]
    if value is None or (nulls and isinstance(value, str) and is_template(value) and _is_whole(value)):
        return None
    return _Unknown()


# --- types -------------------------------------------------------------------------------------------------------


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a union, without what they are annotated with; a single one is a union of itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin is Union or str(origin) == "<class 'types.UnionType'>":
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field of this type may hold, also in a list or a mapping."""
    found: list[type[BaseModel]] = []
    for kind in _members(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
        elif get_origin(kind) in (list, dict):
            found += [model for inner in get_args(kind) for model in models_of(inner)]
    return found


def _models_within(annotation: Any, raw: Any) -> Iterator[tuple[Path, type[BaseModel], Mapping[str, Any]]]:
    """The models that a value holds, where there is no doubt which, with their places and raw values."""
    if isinstance(raw, dict):
        models = [kind for kind in _members(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        fitting = [model for model in models if _has_tags(model, raw)]
        if len(fitting) == 1:
            yield (), fitting[0], raw
    elif isinstance(raw, list):
        for kind in _members(annotation):
            if get_origin(kind) is list:
                for i, item in enumerate(raw):
                    yield from (
                        ((i, *at), model, inner) for at, model, inner in _models_within(get_args(kind)[0], item)
                    )


def _has_tags(model: type[BaseModel], raw: Mapping[str, Any]) -> bool:
    """Return whether the fields by which models of a union are distinguished have this model's values."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and field.is_required():
            key = _key_of(name, field, raw)
            if key is None or raw[key] not in get_args(field.annotation):
                return False
    return True
