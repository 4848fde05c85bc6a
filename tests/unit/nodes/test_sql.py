"""The `sql` node, against SQLite files and a real PostgreSQL."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyflow.core.result import NodeRun
from pyflow.net.addresses import NetworkPolicy, current_policy
from pyflow.net.files import current_root
from pyflow.nodes.sql.node import SqlNode
from tests.support.servers import launcher
from tests.unit.nodes.web import node, run


async def query(url: str, text: str, **config: Any) -> NodeRun:
    return await node("sql", {"url": url, "query": text, **config})


async def output(url: str, text: str, **config: Any) -> dict[str, Any]:
    ended = await query(url, text, **config)
    assert ended.error is None, ended.error.message
    assert isinstance(ended.output, dict)
    json.dumps(ended.output, allow_nan=False)
    return ended.output


async def refusal(url: str, text: str = "SELECT 1", **config: Any) -> tuple[str, str]:
    ended = await query(url, text, **config)
    assert ended.error is not None, ended.output
    return ended.error.code, ended.error.message


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- SQLite


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "root"
    folder.mkdir()
    token = current_root.set(folder)
    yield folder
    current_root.reset(token)


@pytest.fixture
def shop(root: Path) -> str:
    connection = sqlite3.connect(root / "shop.db")
    connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price REAL, raw BLOB)")
    connection.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?)", [(i, f"n{i}", i / 2, b"\x00\xff") for i in range(5)]
    )
    connection.commit()
    connection.close()
    return "sqlite:///shop.db"


async def test_rows_are_given_by_column_name(shop: str):
    answer = await output(shop, "SELECT id, name, price, raw, NULL AS gone FROM items WHERE id = :id", params={"id": 3})
    assert answer == {
        "rows": [{"id": 3, "name": "n3", "price": 1.5, "raw": "AP8=", "gone": None}],
        "columns": ["id", "name", "price", "raw", "gone"],
        "row_count": 1,
        "truncated": False,
    }


async def test_what_stands_in_a_value_is_never_sql(shop: str):
    evil = "x' OR '1'='1"
    assert (await output(shop, "SELECT * FROM items WHERE name = :name", params={"name": evil}))["rows"] == []


async def test_rows_beyond_the_limit_are_left_off(shop: str):
    answer = await output(shop, "SELECT id FROM items ORDER BY id", max_rows=2)
    assert ([row["id"] for row in answer["rows"]], answer["row_count"], answer["truncated"]) == ([0, 1], 2, True)
    assert (await output(shop, "SELECT id FROM items", max_rows=5))["truncated"] is False


async def test_columns_of_one_name_are_distinguished(shop: str):
    assert (await output(shop, "SELECT 1 AS a, 2 AS a, 3 AS a"))["rows"] == [{"a": 1, "a_2": 2, "a_3": 3}]


@pytest.mark.parametrize("statement", ["DELETE FROM items", "CREATE TABLE t (x)", "UPDATE items SET price = 0"])
async def test_a_database_changes_only_where_that_was_asked_for(shop: str, root: Path, statement: str):
    before = (root / "shop.db").read_bytes()
    assert (await refusal(shop, statement))[0] == "sql_refused"
    assert (root / "shop.db").read_bytes() == before
    assert (await output(shop, statement, read_only=False))["rows"] == []
    assert (root / "shop.db").read_bytes() != before


async def test_changes_are_counted_and_kept(shop: str):
    answer = await output(shop, "DELETE FROM items WHERE id < :id", params={"id": 2}, read_only=False)
    assert answer["row_count"] == 2
    assert (await output(shop, "SELECT count(*) AS n FROM items"))["rows"] == [{"n": 3}]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH DATABASE '{outside}' AS other",
        "VACUUM INTO '{outside}.copy'",
        "PRAGMA query_only = OFF",
        "PRAGMA temp_store_directory = '/'",
        "SELECT load_extension('{outside}')",
        "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' REGEXP '(a+)+$'",
        "SELECT 1; DELETE FROM items",
        "DELETE FROM items; SELECT 1",
        "SELECT length(randomblob(100000000))",
        "SELEKT 1",
        "SELECT * FROM nowhere",
    ],
)
async def test_a_statement_stays_in_its_database(
    shop: str, root: Path, tmp_path: Path, read_only: bool, statement: str
):
    outside = tmp_path / "outside.db"
    sqlite3.connect(outside).close()
    text = statement.replace("{outside}", str(outside))
    code, _ = await refusal(shop, text, read_only=read_only)
    assert code in {"sql_refused", "sql_error"}
    assert names_in(tmp_path) == {"root", "outside.db"}
    assert (await output(shop, "SELECT count(*) AS n FROM items"))["rows"] == [{"n": 5}]


async def test_tables_may_be_looked_at(shop: str):
    assert [row["name"] for row in (await output(shop, "PRAGMA table_info(items)"))["rows"]][:2] == ["id", "name"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///../outside.db",
        "sqlite:////etc/passwd",
        "sqlite:///link.db",
        "sqlite:///inner/shop.db",
        "sqlite:///hard.db",
        "sqlite:///a/../../outside.db",
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
async def test_a_database_outside_the_storage_is_refused(
    shop: str, root: Path, tmp_path: Path, url: str, read_only: bool
):
    outside = tmp_path / "outside.db"
    sqlite3.connect(outside).close()
    (root / "link.db").symlink_to(outside)
    (root / "inner").symlink_to(tmp_path)
    (root / "hard.db").hardlink_to(outside)
    assert (await refusal(url, read_only=read_only))[0] == "path_refused"


async def test_a_database_is_made_only_by_one_who_may_write(root: Path):
    assert (await refusal("sqlite:///new/made.db"))[0] == "sql_refused"
    assert names_in(root) == set()
    await output("sqlite:///new/made.db", "CREATE TABLE t (x)", read_only=False)
    assert (root / "new" / "made.db").exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
async def test_memory_is_a_database_of_ones_own(url: str):
    assert (await output(url, "SELECT 1 + :x AS y", params={"x": 2}))["rows"] == [{"y": 3}]


async def test_a_statement_without_an_end_is_interrupted(root: Path):
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) AS m FROM c"
    code, message = await refusal("sqlite://", endless, timeout=0.3)
    assert (code, "0.3 s" in message) == ("node_timeout", True)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, ":id has no value"),
        ({"id": 1, "idd": 2}, "'idd' is not in the query"),
        ({"id": [1]}, "json_each(:id)"),
        ({"id": {"a": 1}}, "tojson(…)"),
    ],
)
async def test_values_have_to_fit_the_query(shop: str, params: dict[str, Any], said: str):
    code, message = await refusal(shop, "SELECT * FROM items WHERE id = :id", params=params)
    assert code in {"sql_refused", "sql_error"}
    assert said in message


@pytest.mark.parametrize(
    "url",
    [
        "oracle://h/d",
        "no url",
        "mssql+pyodbc://h/d",
        "sqlite://host/x",
        "sqlite:///x?mode=rwc",
        "sqlite:///x?uri=true",
        "postgresql://u@127.0.0.1/d?host=/tmp",
        "postgresql://u@127.0.0.1/d?service=x",
        "postgresql://u@127.0.0.1/d?sslkey=/etc/key",
        "mysql://u@127.0.0.1/d?read_default_file=/etc/my.cnf",
        "mysql://u@127.0.0.1/d?unix_socket=/tmp/s",
        "mysql://u@127.0.0.1/d?local_infile=1",
    ],
)
async def test_other_databases_and_options_are_refused(root: Path, url: str):
    assert (await refusal(url, allow_private_networks=True))[0] == "sql_refused"


# --- hosts


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "2130706433", "[::1]", "169.254.169.254", "", "%2Ftmp", "h%3Fx"]
)
async def test_a_host_that_is_not_public_is_refused(scheme: str, host: str):
    code, message = await refusal(f"{scheme}://u:hunter22@{host}/d")
    assert code == "ssrf_blocked"
    assert "hunter22" not in message


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_the_metadata_service_is_never_reached(scheme: str):
    token = current_policy.set(NetworkPolicy(allow_private_networks=True))
    try:
        assert (await refusal(f"{scheme}://u@169.254.169.254/d"))[0] == "ssrf_blocked"
    finally:
        current_policy.reset(token)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_database_that_does_not_answer_is_worth_another_attempt(scheme: str):
    url = f"{scheme}://u:hunter22@127.0.0.1:{launcher.free_port()}/d"
    code, message = await refusal(url, allow_private_networks=True, timeout=5)
    assert code in {"sql_error", "unreachable"}
    assert "hunter22" not in message


# --- PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with launcher.postgres() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE items (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO items SELECT g, 'n' || g FROM generate_series(1, 5000) g")
        yield url


async def pg(url: str, text: str, **config: Any) -> dict[str, Any]:
    return await output(url, text, allow_private_networks=True, **config)


async def pg_refusal(url: str, text: str = "SELECT 1", **config: Any) -> tuple[str, str]:
    return await refusal(url, text, allow_private_networks=True, **config)


async def test_every_kind_of_value_becomes_json(server: str):
    text = """SELECT 1.50::numeric AS n, 'NaN'::float8 AS nan, timestamptz '2026-01-01 00:00Z' AS at,
        date '2026-01-02' AS d, interval '90s' AS i, '\\x00ff'::bytea AS b, ARRAY[1, 2] AS list,
        '{"a": [1]}'::jsonb AS j, '10.0.0.1'::inet AS ip, int4range(1, 3) AS r, gen_random_uuid() AS u,
        true AS t, NULL AS nothing"""
    row = (await pg(server, text))["rows"][0]
    assert len(row.pop("u")) == 36
    assert row.pop("at").startswith("202")
    assert row == {
        "n": "1.50", "nan": "NaN", "d": "2026-01-02", "i": "PT1M30S", "b": "AP8=", "list": [1, 2], "j": {"a": [1]},
        "ip": "10.0.0.1", "r": "[1,3)", "t": True, "nothing": None,
    }  # fmt: skip


async def test_values_are_bound(server: str):
    params = {"ids": [1, 2, 3], "name": "n2"}
    text = "SELECT id FROM items WHERE id = ANY(:ids) AND name = :name"
    assert (await pg(server, text, params=params))["rows"] == [{"id": 2}]


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}]])
async def test_a_mapping_is_no_value(server: str, value: object):
    code, message = await pg_refusal(server, "SELECT :rows AS x", params={"rows": value})
    assert (code, message) == ("sql_refused", ":rows is no single value: send it as JSON, `{{ tojson(…) }}`")


async def test_rows_are_fetched_as_they_are_needed(server: str):
    """A row that cannot be computed lies beyond those that are asked for."""
    text = "SELECT 1 / (2500 - id) AS n FROM items ORDER BY id"
    answer = await pg(server, text, max_rows=3)
    assert (answer["row_count"], answer["truncated"]) == (3, True)
    assert "division by zero" in (await pg_refusal(server, text, max_rows=4000))[1]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items",
        "CREATE TABLE t (x int)",
        "WITH gone AS (DELETE FROM items RETURNING id) SELECT * FROM gone",
        "SELECT 1; COMMIT; DELETE FROM items",
        "COMMIT; DELETE FROM items",
        "EXPLAIN ANALYZE DELETE FROM items",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "DO $$ BEGIN PERFORM set_config('transaction_read_only', 'off', false); DELETE FROM items; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM items; COMMIT; END $$",
        "COPY items TO STDOUT",
        "SELECT nope",
    ],
)
async def test_a_read_only_statement_changes_nothing(server: str, statement: str):
    assert (await pg_refusal(server, statement))[0] in {"sql_refused", "sql_error"}
    assert (await pg(server, "SELECT count(*) AS n FROM items"))["rows"] == [{"n": 5000}]


async def test_what_is_allowed_to_change_changes(server: str):
    inserted = await pg(
        server, "INSERT INTO items VALUES (:id, :name) RETURNING id", params={"id": 9000, "name": "x"}, read_only=False
    )
    assert inserted["rows"] == [{"id": 9000}]
    assert (await pg(server, "DELETE FROM items WHERE id = 9000", read_only=False))["row_count"] == 1
    assert (await pg_refusal(server, "INSERT INTO items VALUES (1, 'twice')", read_only=False))[0] == "sql_refused"


async def test_a_slow_statement_is_cancelled_at_the_server(server: str):
    code, _ = await pg_refusal(server, "SELECT pg_sleep(30) /* slow one */", timeout=0.5)
    assert code == "node_timeout"
    left = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%slow one%' AND pid <> pg_backend_pid()"
    assert (await pg(server, left))["rows"] == [{"n": 0}]


async def test_no_connection_is_left_open(server: str):
    for _ in range(3):
        await pg(server, "SELECT 1")
    count = "SELECT count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend'"
    assert (await pg(server, count))["rows"] == [{"n": 1}]


async def test_the_password_is_in_no_message(server: str):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE visitor LOGIN PASSWORD 'hunt%er22'")
    address = server.partition("@")[2]
    result = await run(
        {
            "id": "n",
            "type": "sql",
            "config": {
                "url": "{{ secrets.DB }}",
                "query": "SELECT 'hunt%er22'::int AS n",
                "allow_private_networks": True,
            },
        },
        secrets={"DB": f"postgresql://visitor:hunt%25er22@{address}"},
    )
    error = result.nodes["n"].error
    assert error is not None
    assert "invalid input syntax" in error.message
    assert "hunt" not in error.message


async def test_the_passwords_of_the_operator_are_not_used(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A stranger's URL must not be given what the environment holds for somebody else."""
    secret = tmp_path / "pgpass"
    secret.write_text("*:*:*:*:operators\n")
    secret.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(secret))
    monkeypatch.setenv("PGPASSWORD", "operators")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    assert (await pg(server, "SELECT 1 AS x"))["rows"] == [{"x": 1}]


async def test_names_are_connected_to_by_the_address_that_was_checked(server: str):
    local = server.replace("127.0.0.1", "localhost")
    assert (await pg(local, "SELECT 1 AS x"))["rows"] == [{"x": 1}]


def test_the_config_is_checked_beforehand():
    for wrong in ({"query": ""}, {"max_rows": 0}, {"read_only": "no"}, {"param": {}}):
        with pytest.raises(ValueError, match="SqlConfig"):
            SqlNode.Config.model_validate({"url": "sqlite://", "query": "SELECT 1", **wrong})
