"""Descriptions of a model's fields: the text below them, found when a schema is made."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from pyflow.documents.described import DescribedModel
from pyflow.nodes import default_registry
from pyflow.nodes.catalogue import describe
from pyflow.validation.file_schema import file_schema


class Inner(DescribedModel):
    deep: int = 0
    """In a model of its own."""


class Base(DescribedModel):
    first: int
    """One line."""
    second: str = "x"
    """More
    than one line."""
    replaced: int = 1
    """The base's."""


class Model(Base):
    replaced: int = 2
    """Its own."""
    told: Annotated[int, Field(description="By the field.")] = 3
    """By the text, in vain."""
    other: int = Field(4, alias="another")
    """By its alias."""
    inner: Inner = Field(default_factory=Inner)
    """A reference."""
    silent: int = 5

    class Nested(DescribedModel):
        field: int
        """Inside a class."""

    def method(self) -> None:
        """No field's."""


def descriptions(model: type[BaseModel]) -> dict[str, Any]:
    return {name: shape.get("description") for name, shape in model.model_json_schema()["properties"].items()}


def test_the_text_below_a_field_describes_it():
    assert descriptions(Base) == {
        "first": "One line.",
        "second": "More\nthan one line.",
        "replaced": "The base's.",
    }
    assert descriptions(Model.Nested) == {"field": "Inside a class."}


def test_a_subclass_inherits_descriptions_and_has_its_own():
    assert descriptions(Model) == {
        "first": "One line.",
        "second": "More\nthan one line.",
        "replaced": "Its own.",
        "told": "By the field.",
        "another": "By its alias.",
        "inner": "A reference.",
        "silent": None,
    }
    assert Model.model_json_schema()["$defs"]["Inner"]["properties"]["deep"]["description"] == "In a model of its own."


def test_the_schema_is_the_one_that_pydantic_makes_of_attribute_docstrings():
    class Plain(BaseModel, use_attribute_docstrings=True):
        first: int
        """One line."""
        second: str = "x"
        """More
        than one line."""
        replaced: int = 1
        """The base's."""

    assert Base.model_json_schema() == Plain.model_json_schema() | {"title": "Base"}


def test_every_field_of_the_format_and_of_the_node_types_is_described():
    schema = file_schema()
    shapes = [schema, *schema["$defs"].values()]
    for entry in describe(default_registry):
        for part in (entry["config"], entry["output"]):
            shapes += [part, *part.get("$defs", {}).values()]
    bare = [
        (shape.get("title"), name)
        for shape in shapes
        for name, field in shape.get("properties", {}).items()
        if not field.get("description")
    ]
    assert bare == []
