"""The `sql` node against a real MariaDB, by the driver that MySQL is spoken to with, too."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from pyflow.core.result import NodeRun
from tests.support import waiting
from tests.support.servers import launcher
from tests.unit.nodes.web import node, run

pytestmark = pytest.mark.mariadb

ROWS = 5000


def connect(url: str) -> Any:
    """A connection of the test's own, each statement a transaction."""
    login, _, place = url.removeprefix("mysql://").partition("@")
    user, _, password = login.partition(":")
    address, _, database = place.partition("/")
    host, _, port = address.partition(":")
    return pymysql.connect(host=host, port=int(port), user=user, password=password, database=database, autocommit=True)


def direct(url: str, *statements: str) -> Any:
    """Execute statements as the test itself and return the rows of the last one."""
    with contextlib.closing(connect(url)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with launcher.mariadb() as url:
        direct(
            url,
            "CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB",
            f"INSERT INTO items SELECT seq, CONCAT('n', seq) FROM seq_1_to_{ROWS}",
            "CREATE PROCEDURE wipe() BEGIN COMMIT; DELETE FROM items; COMMIT; END",
        )
        yield url


async def query(url: str, text: str, **config: Any) -> NodeRun:
    return await node("sql", {"url": url, "query": text, "allow_private_networks": True, **config})


async def output(url: str, text: str, **config: Any) -> dict[str, Any]:
    ended = await query(url, text, **config)
    assert ended.error is None, ended.error.message
    assert isinstance(ended.output, dict)
    json.dumps(ended.output, allow_nan=False)
    return ended.output


async def rows(url: str, text: str, **config: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await output(url, text, **config))["rows"]
    return found


async def refusal(url: str, text: str, **config: Any) -> tuple[str, str]:
    ended = await query(url, text, **config)
    assert ended.error is not None, ended.output
    return ended.error.code, ended.error.message


def count(url: str) -> int:
    ((number,),) = direct(url, "SELECT COUNT(*) FROM items")
    return int(number)


async def test_every_kind_of_value_becomes_json(server: str):
    text = """SELECT 1.50 AS n, 18446744073709551615 AS big, CAST(0.5 AS DOUBLE) AS f,
        TIMESTAMP '2026-01-01 00:00:00.5' AS at, DATE '2026-01-02' AS d, TIME '26:00:01' AS t, X'00ff' AS b,
        b'101' AS bits, TRUE AS yes, JSON_OBJECT('a', 1) AS j, 'grüße 🙂' AS words, CAST('::1' AS INET6) AS ip,
        CAST('123e4567-e89b-12d3-a456-426655440000' AS UUID) AS u, ST_AsText(POINT(1, 2)) AS p, NULL AS nothing"""
    assert await rows(server, text) == [{
        "n": "1.50", "big": 18446744073709551615, "f": 0.5, "at": "2026-01-01T00:00:00.500000", "d": "2026-01-02",
        "t": 93601.0, "b": "AP8=", "bits": "BQ==", "yes": 1, "j": '{"a": 1}', "words": "grüße 🙂",
        "ip": "::1", "u": "123e4567-e89b-12d3-a456-426655440000", "p": "POINT(1 2)", "nothing": None,
    }]  # fmt: skip


async def test_the_types_of_columns_become_json(server: str):
    direct(
        server,
        "CREATE OR REPLACE TABLE kinds (y YEAR, e ENUM('a', 'b'), s SET('x', 'y'), raw BLOB, j JSON, flag BOOLEAN,"
        " amount DECIMAL(20, 4), none_yet DATETIME)",
        "INSERT INTO kinds VALUES (2026, 'b', 'x,y', X'ff00', '[1]', FALSE, 12345678901234.5, NULL)",
    )
    assert await rows(server, "SELECT * FROM kinds") == [{
        "y": 2026, "e": "b", "s": "x,y", "raw": "/wA=", "j": "[1]", "flag": 0, "amount": "12345678901234.5000",
        "none_yet": None,
    }]  # fmt: skip


VALUES = [
    "x' OR '1'='1", "\\' OR 1=1 -- ", '"; DROP TABLE items; --', "\\", "a\0b", "\x1a", "100%", "%s", "%(name)s",
    ":name", "縗' OR 1=1", "🙂", "", " trailing ", "a\nb\tc",
]  # fmt: skip


@pytest.mark.parametrize("sql_mode", ["STRICT_TRANS_TABLES", "NO_BACKSLASH_ESCAPES", "ANSI"])
async def test_what_stands_in_a_value_is_never_sql(server: str, sql_mode: str):
    before = direct(server, "SELECT @@GLOBAL.sql_mode")[0][0]
    direct(server, f"SET GLOBAL sql_mode = '{sql_mode}'")
    try:
        for value in VALUES:
            # In hexadecimal: a result holds no NUL.
            assert await rows(server, "SELECT HEX(:value) AS v, 1 AS one", params={"value": value}) == [
                {"v": value.encode().hex().upper(), "one": 1}
            ], value
            assert await rows(server, "SELECT id FROM items WHERE name = :value", params={"value": value}) == [], value
    finally:
        direct(server, f"SET GLOBAL sql_mode = '{before}'")
    assert count(server) == ROWS


@pytest.mark.parametrize(
    ("value", "given"),
    [(7, 7), (2.5, 2.5), (True, 1), (None, None), ("2.50", "2.50")],
)
async def test_a_value_arrives_as_what_it_is(server: str, value: Any, given: Any):
    assert await rows(server, "SELECT :value AS v", params={"value": value}) == [{"v": given}]


async def test_a_list_is_a_list_of_values(server: str):
    params = {"ids": [1, 2, 9999], "name": "n2"}
    assert await rows(server, "SELECT id FROM items WHERE id IN :ids AND name = :name", params=params) == [{"id": 2}]
    evil = {"names": ["n1", "x') OR ('1'='1"]}
    assert await rows(server, "SELECT id FROM items WHERE name IN :names", params=evil) == [{"id": 1}]


async def test_a_percent_sign_in_the_text_is_one(server: str):
    assert await rows(server, "SELECT '100%' AS v, '%s' AS w") == [{"v": "100%", "w": "%s"}]
    text = "SELECT COUNT(*) AS n FROM items WHERE name LIKE 'n1%' AND id < :top"
    assert await rows(server, text, params={"top": 20}) == [{"n": 11}]


async def test_a_value_that_no_database_has_is_refused(server: str):
    code, message = await refusal(server, "SELECT :value AS v", params={"value": {"a": 1}})
    assert code == "sql_refused"
    assert ":value is no single value" in message


async def test_rows_beyond_the_limit_are_left_off(server: str):
    answer = await output(server, "SELECT id FROM items ORDER BY id", max_rows=2)
    assert ([row["id"] for row in answer["rows"]], answer["row_count"], answer["truncated"]) == ([1, 2], 2, True)
    assert (await output(server, "SELECT id FROM items", max_rows=ROWS))["truncated"] is False


async def test_rows_beyond_the_limit_are_not_even_fetched(server: str):
    endless = "SELECT a.id FROM items a, items b, items c, items d"
    answer = await output(server, endless, max_rows=3, timeout=20)
    assert (answer["row_count"], answer["truncated"]) == (3, True)


async def test_columns_of_one_name_are_distinguished(server: str):
    assert await rows(server, "SELECT 1 AS a, 2 AS a") == [{"a": 1, "a_2": 2}]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items",
        "UPDATE items SET name = 'x'",
        "INSERT INTO items VALUES (0, 'x')",
        "REPLACE INTO items VALUES (1, 'x')",
        "DELETE FROM items RETURNING id",
        "TRUNCATE items",
        "CREATE TABLE t (x INT)",
        "DROP TABLE items",
        "SELECT 1; COMMIT; DELETE FROM items",
        "COMMIT; DELETE FROM items",
        "BEGIN NOT ATOMIC COMMIT; DELETE FROM items; COMMIT; END",
        "/* c */ BEGIN NOT ATOMIC COMMIT; DELETE FROM items; COMMIT; END",
        "/*!50000 BEGIN NOT ATOMIC COMMIT; DELETE FROM items; COMMIT; END */",
        "/*M! BEGIN NOT ATOMIC COMMIT; DELETE FROM items; COMMIT; END */",
        "IF 1 THEN COMMIT; DELETE FROM items; COMMIT; END IF",
        "CALL wipe()",
        "EXECUTE IMMEDIATE 'DELETE FROM items'",
        "SET STATEMENT tx_read_only = 0 FOR DELETE FROM items",
        "ANALYZE DELETE FROM items",
        "START TRANSACTION READ WRITE",
        "SET GLOBAL max_connections = 10",
        "LOCK TABLES items WRITE",
        "SELECT nope",
        "SELEKT 1",
    ],
)
async def test_a_read_only_statement_changes_nothing(server: str, statement: str):
    before = direct(server, "CHECKSUM TABLE items", "SHOW TABLES")
    code, _ = await refusal(server, statement)
    assert code == "sql_refused"
    assert direct(server, "CHECKSUM TABLE items", "SHOW TABLES") == before
    assert count(server) == ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT COUNT(*) AS n FROM items",
        "  /* why */ -- and how\n # here\n select 1 AS n",
        "(SELECT 1 AS n)",
        "WITH x AS (SELECT 1 AS n) SELECT n FROM x",
        "VALUES (1)",
        "SHOW TABLES",
        "DESCRIBE items",
        "EXPLAIN SELECT * FROM items",
    ],
)
async def test_whatever_reads_is_read_only(server: str, statement: str):
    assert (await output(server, statement))["row_count"] >= 1


async def test_what_is_allowed_to_change_changes(server: str):
    text = "INSERT INTO items VALUES (:id, :name) RETURNING id"
    inserted = await rows(server, text, params={"id": 9000, "name": "x"}, read_only=False)
    assert inserted == [{"id": 9000}]
    assert (await output(server, "DELETE FROM items WHERE id = 9000", read_only=False))["row_count"] == 1
    assert count(server) == ROWS
    code, message = await refusal(server, "INSERT INTO items VALUES (1, 'twice')", read_only=False)
    assert code == "sql_refused"
    assert "Duplicate entry" in message


async def test_a_statement_that_fails_half_way_changes_nothing(server: str):
    text = "INSERT INTO items VALUES (9001, 'kept?'), (1, 'a duplicate')"
    assert (await refusal(server, text, read_only=False))[0] == "sql_refused"
    assert count(server) == ROWS


async def test_changes_are_committed_only_once_the_statement_is_over(server: str):
    text = "INSERT INTO items SELECT 9002, CONCAT('n', SLEEP(30))"
    assert (await refusal(server, text, read_only=False, timeout=0.3))[0] == "node_timeout"
    waiting.until(lambda: not running(server, "SLEEP(30)"), 10, "the server to give up")
    assert count(server) == ROWS


async def test_rows_that_are_left_off_do_not_undo_what_the_statement_did(server: str):
    direct(
        server,
        "CREATE OR REPLACE TABLE seen (id INT)",
        "CREATE OR REPLACE FUNCTION note(i INT) RETURNS INT MODIFIES SQL DATA"
        " BEGIN INSERT INTO seen VALUES (i); RETURN i; END",
    )
    answer = await output(server, "SELECT note(id) AS i FROM items WHERE id <= 50", max_rows=3, read_only=False)
    assert answer["truncated"] is True
    assert direct(server, "SELECT COUNT(*) FROM seen") == ((50,),)


def running(url: str, text: str) -> bool:
    """Whether the server is busy with a statement of that text."""
    found = direct(url, "SELECT info FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
    return any(text in (info or "") for (info,) in found)


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_slow_statement_ends_at_the_server_too(server: str, read_only: bool):
    code, message = await refusal(server, "SELECT SLEEP(600) /* slow */", timeout=0.5, read_only=read_only)
    assert (code, "0.5 s" in message) == ("node_timeout", True)
    waiting.until(lambda: not running(server, "SLEEP(600)"), what="the server to give up")


async def test_no_connection_is_left_behind(server: str):
    for _ in range(3):
        await rows(server, "SELECT 1 AS x")
    others = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'tester' AND id <> CONNECTION_ID()"
    waiting.until(lambda: direct(server, others) == ((0,),), 10, "the connections to end")


async def test_a_row_that_somebody_else_holds_is_worth_another_attempt(server: str):
    direct(server, "SET GLOBAL innodb_lock_wait_timeout = 1")
    with contextlib.closing(connect(server)) as other, other.cursor() as cursor:
        other.begin()
        cursor.execute("UPDATE items SET name = name WHERE id = 1")
        code, message = await refusal(server, "UPDATE items SET name = 'x' WHERE id = 1", read_only=False)
        other.rollback()
    assert code == "sql_error"
    assert "Lock wait timeout" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace(":secret@", ":hunt%25er22@"), "Access denied"),
        (lambda url: url.replace("/tests", "/nowhere"), "Unknown database"),
    ],
)
async def test_what_another_attempt_cannot_mend_is_refused(server: str, change: Any, said: str):
    code, message = await refusal(change(server), "SELECT 1")
    assert code == "sql_refused"
    assert said in message
    assert "hunt" not in message


async def test_the_password_is_in_no_message(server: str):
    direct(server, "CREATE OR REPLACE USER visitor@127.0.0.1 IDENTIFIED BY 'hunt%er22'")
    url = server.replace("tester:secret", "visitor:hunt%25er22").replace("/tests", "/")
    config = {"url": "{{ secrets.DB }}", "query": "SELECT 'hunt%er22' FROM nowhere.x", "allow_private_networks": True}
    result = await run({"id": "n", "type": "sql", "config": config}, secrets={"DB": url})
    error = result.nodes["n"].error
    assert error is not None
    assert "denied" in error.message
    assert "hunt" not in error.message


async def test_names_are_connected_to_by_the_address_that_was_checked(server: str):
    assert await rows(server.replace("127.0.0.1", "localhost"), "SELECT 1 AS x") == [{"x": 1}]


@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"])
async def test_each_scheme_is_the_same_database(server: str, scheme: str):
    assert await rows(server.replace("mysql:", f"{scheme}:"), "SELECT 1 AS x") == [{"x": 1}]


async def test_no_file_of_this_machine_is_sent(server: str, tmp_path: Any):
    (tmp_path / "secret").write_text("secret\n")
    text = f"LOAD DATA LOCAL INFILE '{tmp_path}/secret' INTO TABLE items (name)"
    assert (await refusal(server, text, read_only=False))[0] in {"sql_refused", "sql_error"}
    assert count(server) == ROWS


async def test_a_server_without_tls_is_not_spoken_to_when_tls_is_asked_for(server: str):
    code, _ = await refusal(f"{server}?ssl=true", "SELECT 1")
    assert code in {"sql_refused", "sql_error"}


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 INTO OUTFILE '/tmp/never'",
        "/* SELECT */ DELETE FROM items",
        "/*! DELETE FROM items */",
        "/*!999999 SELECT */ BEGIN NOT ATOMIC COMMIT; DELETE FROM items; COMMIT; END",
        "SELECT 1 /*! INTO DUMPFILE '/tmp/never' */",
        "WITH x AS (SELECT 1 AS id) DELETE FROM items USING items JOIN x ON items.id = x.id",
        "ANALYZE FORMAT=JSON DELETE FROM items",
    ],
)
async def test_a_writing_statement_is_refused_in_every_disguise(server: str, text: str):
    assert (await refusal(server, text))[0] == "sql_refused"
    assert count(server) == ROWS


async def test_colons_in_literals_comments_and_names_are_no_parameters(server: str):
    text = "SELECT 'it\\'s :a' AS `b:c`, '50%' AS p, \"d:e\" AS q, :x AS x # :f"
    assert await rows(server, text, params={"x": 1}) == [{"b:c": "it's :a", "p": "50%", "q": "d:e", "x": 1}]


async def test_effects_of_a_cut_statement_are_whole(server: str):
    direct(server, "CREATE TABLE cut (id INT)", f"INSERT INTO cut SELECT seq FROM seq_1_to_{ROWS}")
    ended = await query(server, "DELETE FROM cut RETURNING id", read_only=False, max_rows=2)
    assert ended.error is None, ended.error.message
    assert (ended.output["row_count"], ended.output["truncated"]) == (2, True)
    assert direct(server, "SELECT COUNT(*) FROM cut") == ((0,),)
