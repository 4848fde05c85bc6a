"""Errors of templates. Each one is also an error of Jinja2's of that kind, as v1 raised it."""

from __future__ import annotations

from typing import ClassVar

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.utils import missing

from pyflow.core.errors import PyFlowError
from pyflow.core.wording import no_field


class Missing(jinja2.StrictUndefined):
    """A field that is not there: says so in the words of this project when it is used."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return str(self._undefined_hint)
        if self._undefined_obj is missing:
            return f"{self._undefined_name!r} is undefined"
        return no_field(self._undefined_obj, self._undefined_name)


class TemplateError(PyFlowError, ValueError, jinja2.TemplateError):
    """A template that cannot be compiled or rendered."""

    code: ClassVar[str] = "template_error"
    permanent: ClassVar[bool] = True
    #: Where the template stands in the node, such as ``config.url``, once that is known.
    place = ""

    def __str__(self) -> str:
        text = super().__str__()
        return f"`{self.place}`: {text}" if self.place else text


class TemplateUndefinedError(TemplateError, jinja2.UndefinedError):
    """The template uses a name or a field that has no value."""

    code: ClassVar[str] = "template_undefined"


class TemplateSecurityError(TemplateError, SecurityError):
    """The template reaches for something that is not data."""

    code: ClassVar[str] = "template_unsafe"


class TemplateLimitError(TemplateSecurityError):
    """The template, or a value it makes, is larger than allowed, or rendering it takes too long."""

    code: ClassVar[str] = "template_limit"
    #: How much time it takes is another matter each time.
    permanent: ClassVar[bool] = False


class TemplateSyntaxError(TemplateError, jinja2.TemplateSyntaxError):
    """The text is not a template."""

    code: ClassVar[str] = "template_syntax"

    def __init__(self, message: str, lineno: int = 1) -> None:
        jinja2.TemplateSyntaxError.__init__(self, message, lineno)

    def __str__(self) -> str:
        return f"{self.message} (line {self.lineno} of the template)" if self.lineno > 1 else str(self.message)
