"""Config, output and errors of the ``sql`` node."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.nodes.fields import Flag, NodeConfig, NodeOutput, PositiveInt, Seconds, TemplateText

MAX_ROWS = 1000


TIMEOUT = 30.0


class SqlError(NodeError):
    """The database could not be reached, or gave up for a reason that may pass (a deadlock, a restart)."""

    code: ClassVar[str] = "sql_error"


class SqlRefusedError(NonRetryableError):
    """The statement, its parameters or the URL are wrong, or not allowed; another attempt will not change that."""

    code: ClassVar[str] = "sql_refused"


class SqlConfig(NodeConfig):
    """Config of the ``sql`` node."""

    url: str
    """``postgresql://user:password@host/name``, ``mysql://…`` or ``sqlite:///path`` in the storage. From a secret."""
    query: str = Field(min_length=1)
    """One statement. Values go into ``params`` and stand here as ``:name``; never write them into the text. A colon in
    a literal, a comment or a quoted name, a cast (``::``) and a slice (``a[1:n]``) are no parameters."""
    params: dict[str, Any] | TemplateText = Field(default_factory=dict)
    """The values by name."""
    max_rows: PositiveInt = MAX_ROWS
    """Maximum number of rows; ``truncated`` says whether there are more. What a statement changes is committed as a
    whole all the same."""
    read_only: Flag = True
    """Let the database refuse changes."""
    timeout: Seconds | None = TIMEOUT
    """Time limit for everything together."""
    allow_private_networks: Flag = False
    """Allow private and loopback addresses, if the operator lets workflows decide that."""


class SqlOutput(NodeOutput):
    """Output of the ``sql`` node."""

    rows: list[dict[str, Any]]
    """Each by column name. What JSON lacks is text: decimals, `NaN`, dates, intervals (ISO 8601); bytes are base64."""
    columns: list[str]
    """The names in order. A name that occurs again has ``_2`` and so on."""
    row_count: int
    """Number of rows here, or of changed rows."""
    truncated: bool
    """True if there are more than ``max_rows``."""
