"""Every operation of the API as its OpenAPI document has it: what the generated tests are generated from."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    spec: dict[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether it needs no credential."""
        return not self.spec.get("security")

    @property
    def collection(self) -> str:
        """The first part of its path below ``/api/v1/``."""
        return self.path.split("/")[3]

    def parameters(self, place: str) -> list[dict[str, Any]]:
        """Those in the ``path``, the ``query`` or the ``header``."""
        return [parameter for parameter in self.spec.get("parameters", ()) if parameter["in"] == place]

    @property
    def answers(self) -> list[str]:
        """The media types of what it answers when all is well; at least JSON."""
        contents = [answer.get("content", {}) for status, answer in self.spec["responses"].items() if status < "300"]
        return sorted({media_type for content in contents for media_type in content}) or ["application/json"]

    @property
    def is_list(self) -> bool:
        """Whether it answers with ``results``."""
        shape = self.spec["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        name = shape.get("$ref", "").rpartition("/")[2]
        return self.method == "GET" and "results" in document()["components"]["schemas"].get(name, shape).get(
            "properties", {}
        )

    @property
    def has_pages(self) -> bool:
        """Whether it is a list with a cursor."""
        return "cursor" in {parameter["name"] for parameter in self.parameters("query")}


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    described: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return described


@cache
def operations() -> dict[str, Operation]:
    """All operations by their id."""
    found = [
        Operation(item[method]["operationId"], method.upper(), path, item[method])
        for path, item in document()["paths"].items()
        for method in METHODS
        if method in item
    ]
    return {operation.id: operation for operation in found}
