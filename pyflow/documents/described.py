"""Models whose fields are described by the text below them, which is looked for when a JSON Schema is made."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class DescribedModel(BaseModel):
    """The text below a field is its ``description`` in the JSON Schema, unless ``Field(description=…)`` gives one.

    pydantic's ``use_attribute_docstrings`` gives the same schema, and reads and parses the source of each class when it
    is made: an eighth of the time that ``pyflow run`` took to start, for texts that a run never shows.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        texts = _texts(cls)
        for name, field in cls.model_fields.items():
            shape = properties.get(field.alias or name)
            if shape is not None and field.description is None and name in texts:
                shape["description"] = texts[name]
        return schema


def _texts(cls: type[BaseModel]) -> dict[str, str]:
    """The texts of a class's fields, its own and inherited ones."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, DescribedModel):
            texts |= _texts_of_module(base.__module__).get(base.__qualname__, {})
    return texts


@cache
def _texts_of_module(module: str) -> dict[str, dict[str, str]]:
    """The text below each annotated name, by class and name; empty where a program comes without its source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:
        return {}
    found: dict[str, dict[str, str]] = {}
    inside: list[tuple[str, ast.Module | ast.ClassDef]] = [("", tree)]
    for prefix, scope in inside:
        for statement in scope.body:
            if isinstance(statement, ast.ClassDef):
                name = f"{prefix}{statement.name}"
                found[name] = _texts_in(statement)
                inside.append((f"{name}.", statement))
    return found


def _texts_in(definition: ast.ClassDef) -> dict[str, str]:
    texts: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            texts[field.target.id] = inspect.cleandoc(below.value.value)
    return texts
