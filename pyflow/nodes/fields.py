"""Types for the config models of built-in nodes: a value, or the template that will give it.

A file is checked before its templates are rendered, so wherever text would not do, a template has to.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from pyflow.core.duration import Duration
from pyflow.documents.described import DescribedModel
from pyflow.expressions.template import is_template

#: Marks a value as a template.
TEMPLATE_PATTERN = r"\{\{|\{%"
TemplateText = Annotated[str, Field(pattern=TEMPLATE_PATTERN, description="A template that gives the value.")]


def _no_text(value: object) -> object:
    # pydantic would read "30" and "yes" as a number and a bool; a node gets what the file says.
    if isinstance(value, str):
        raise ValueError("text that is not a template")
    return value


def _json_path(text: str) -> str:
    from pyflow.expressions import jsonpath  # noqa: PLC0415 - jsonpath-ng takes longer to load than a small workflow to run

    if not is_template(text):
        jsonpath.compile_path(text)
    return text


JsonPath = Annotated[str, AfterValidator(_json_path)]
Flag = Annotated[bool, BeforeValidator(_no_text)] | TemplateText
PositiveInt = Annotated[int, BeforeValidator(_no_text), Field(ge=1)] | TemplateText
Seconds = Duration | TemplateText
Headers = dict[str, str | int | float | bool] | TemplateText
AnyValue = Any


class NodeConfig(DescribedModel):
    """Base of the config models: unknown keys are mistakes, and each field says what it is for.

    Validators are built with the first use: a v1 run needs none, and they would take most of the time of the import.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)


class NodeOutput(DescribedModel):
    """Base of the models of what nodes give."""

    model_config = ConfigDict(defer_build=True)
