"""The ``sql`` node: one statement in a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from pyflow.core.errors import NodeError, NonRetryableError
from pyflow.core.node import BaseNodeV2
from pyflow.nodes import lazy
from pyflow.nodes.fields import Flag, NodeConfig, NodeOutput, PositiveInt, Seconds, TemplateText
from pyflow_sdk.node import NodeContext

MAX_ROWS = 1000
TIMEOUT = 30.0


class SqlError(NodeError):
    """The database could not be reached, or gave up for a reason that may pass (a deadlock, a restart)."""

    code: ClassVar[str] = "sql_error"


class SqlRefusedError(NonRetryableError):
    """The statement, its parameters or the URL are wrong, or not allowed; another attempt will not change that."""

    code: ClassVar[str] = "sql_refused"


class SqlConfig(NodeConfig):
    """What the ``sql`` node needs."""

    url: str
    """``postgresql://user:password@host/name``, ``mysql://…`` or ``sqlite:///path`` in the storage. From a secret."""
    query: str = Field(min_length=1)
    """One statement. Values go into ``params`` and stand here as ``:name``; never write them into the text. A colon in
    a literal, a comment or a quoted name, a cast (``::``) and a slice (``a[1:n]``) are no parameters."""
    params: dict[str, Any] | TemplateText = Field(default_factory=dict)
    """The values by name."""
    max_rows: PositiveInt = MAX_ROWS
    """How many rows at most; ``truncated`` says whether there are more. What a statement changes is committed as a
    whole all the same."""
    read_only: Flag = True
    """Whether the database is to refuse changes."""
    timeout: Seconds | None = TIMEOUT
    """How long everything together may take."""
    allow_private_networks: Flag = False
    """Whether private and loopback addresses may be reached, where the operator lets workflows decide that."""


class SqlOutput(NodeOutput):
    """What the ``sql`` node gives."""

    rows: list[dict[str, Any]]
    """Each by column name. What JSON lacks is text: decimals, `NaN`, dates, intervals (ISO 8601); bytes are base64."""
    columns: list[str]
    """The names in order. A name that occurs again has ``_2`` and so on."""
    row_count: int
    """How many rows are here, or how many were changed."""
    truncated: bool
    """Whether there are more than ``max_rows``."""


class SqlNode(BaseNodeV2[SqlConfig]):
    """Executes one statement in PostgreSQL, MySQL or SQLite and gives ``{rows, columns, row_count, truncated}``.

    The database itself refuses changes unless ``read_only`` is false; what its user may see and call is up to its
    grants. In MySQL, where a block or a procedure could end the read-only transaction, a statement then has to begin
    with a word such as ``SELECT``, ``WITH`` or ``SHOW``, and has no ``INTO``. An SQLite file is a path
    of the storage and cannot attach others.

    Raises ``SqlRefusedError``, ``SqlError``, ``SSRFError`` for a host that is not public, ``PathRefusedError`` for a
    file outside the storage, ``NodeTimeoutError``. No message holds the password.
    """

    node_type: ClassVar[str] = "sql"
    display_name: ClassVar[str] = "SQL"
    category: ClassVar[str] = "data"
    description: ClassVar[str] = "Executes a statement in PostgreSQL, MySQL or SQLite."
    version: ClassVar[str] = "1.0.0"
    example: ClassVar[Mapping[str, Any]] = {
        "url": "{{ secrets.SHOP_DATABASE }}",
        "query": "SELECT id, total FROM orders WHERE customer = :customer",
        "params": {"customer": "{{ input.customer }}"},
        "max_rows": 100,
    }
    Config = SqlConfig
    Output = SqlOutput

    async def run(self, config: SqlConfig, ctx: NodeContext) -> SqlOutput:  # noqa: ARG002
        """Execute the statement; see the class."""
        output: SqlOutput = await lazy.sql_query.execute(config)
        return output
