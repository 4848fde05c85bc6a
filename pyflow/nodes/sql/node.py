"""The ``sql`` node: one statement in a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pyflow.core.node import BaseNodeV2
from pyflow.core.traits import NodeTraits
from pyflow.nodes.sql.config import SqlConfig, SqlOutput
from pyflow_sdk.node import NodeContext


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
    traits: ClassVar[NodeTraits] = NodeTraits(calls_service=True, limits_time=True)
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
        from pyflow.nodes.sql import query  # noqa: PLC0415 - SQLAlchemy takes longer to load than a small workflow to run

        output: SqlOutput = await query.execute(config)
        return output
