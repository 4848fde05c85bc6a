"""What the `sql` node takes for a parameter, what it lets through, and which effects a cut of the rows leaves."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyflow.core.result import NodeRun
from pyflow.net.files import current_root
from pyflow.nodes.sql.text import Kind, read
from tests.support.servers import launcher
from tests.unit.nodes.web import node


async def query(url: str, text: str, **config: Any) -> NodeRun:
    return await node("sql", {"url": url, "query": text, "allow_private_networks": True, **config})


async def rows(url: str, text: str, **config: Any) -> list[dict[str, Any]]:
    ended = await query(url, text, **config)
    assert ended.error is None, ended.error.message
    json.dumps(ended.output, allow_nan=False)
    found: list[dict[str, Any]] = ended.output["rows"]
    return found


async def refusal(url: str, text: str, **config: Any) -> tuple[str, str]:
    ended = await query(url, text, **config)
    assert ended.error is not None, ended.output
    return ended.error.code, ended.error.message


# --- parameters

PARAMETERS: list[tuple[Kind, str, set[str]]] = [
    ("sqlite", "select '{\"days\":28}' as j -- see :doc", set()),
    ("sqlite", "select [a:b], `c:d`, \"e:f\", 'it''s :g', :h /* :i */", {"h"}),
    ("sqlite", "select 'a\\', :x", {"x"}),
    ("postgresql", "select /* a /* :b */ :c */ 1::int, :d::text, (:e)", {"d", "e"}),
    ("postgresql", "select $$ :a $$, $t$ $$ :b $t$, :c", {"c"}),
    ("postgresql", "select E'it\\'s :a', e'\\\\', U&'\\0041:b', 'c\\', :d", {"d"}),
    ("postgresql", "select a[1:n], a[:m], a[b:c], j ? 'k', j @> :j, j #>> '{x:y}'", {"m", "j"}),
    ("postgresql", "select json_object('a':b), x=:größe, $1, a$b$c:d", {"größe"}),
    ("postgresql", "select ':a', \"b:c\", 'd", set()),
    ("mysql", "select 5--:x, `a:b`, 'it\\'s :c', \"d:e\" # :f\n, @v := :g -- :h", {"x", "g"}),
    ("mysql", "select /*! :a */ /* :b */ 1 /*M! :c */", {"a", "c"}),
    ("mysql", "select /* a /* :b */ :c", {"c"}),
]


@pytest.mark.parametrize(("kind", "text", "names"), PARAMETERS)
def test_parameters_are_distinguished_from_colons(kind: Kind, text: str, names: set[str]):
    assert read(text, kind).params == names


@pytest.mark.parametrize(
    ("kind", "text", "first"),
    [
        ("postgresql", "-- a\n /* b /* c */ */ ((select 1))", "select"),
        ("mysql", "# a\n-- b\n/* c */ (SELECT 1)", "select"),
        ("mysql", "/*!99999 select */ begin not atomic", ""),
        ("sqlite", ";select 1", ""),
        ("sqlite", "", ""),
    ],
)
def test_the_first_word_comes_after_comments_and_brackets(kind: Kind, text: str, first: str):
    assert read(text, kind).first == first


def test_a_percent_sign_is_no_placeholder():
    assert read("select '50%' like :x", "postgresql").text == "select '50%%' like %(x)s"
    assert read("select '50%' like :x", "sqlite").text == "select '50%' like :x"


# --- SQLite


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany("INSERT INTO items VALUES (?, ?)", [(i, f"n{i}") for i in range(10)])
    connection.close()
    token = current_root.set(tmp_path)
    yield "sqlite:///shop.db"
    current_root.reset(token)


async def test_colons_in_literals_and_comments_are_no_parameters(shop: str):
    text = "select '{\"days\":28}' as j, '12:30' || :x as t -- see :doc"
    assert await rows(shop, text, params={"x": "%"}) == [{"j": '{"days":28}', "t": "12:30%"}]


async def test_effects_of_a_cut_statement_are_whole_in_sqlite(shop: str):
    ended = await query(shop, "DELETE FROM items WHERE id < 5 RETURNING id", read_only=False, max_rows=2)
    assert (ended.output["row_count"], ended.output["truncated"]) == (2, True)
    text = "WITH old AS (SELECT 5 AS id) DELETE FROM items WHERE id IN (SELECT id FROM old)"
    assert (await query(shop, text, read_only=False)).output["row_count"] == 1
    assert await rows(shop, "SELECT count(*) AS n FROM items") == [{"n": 4}]


async def test_numbers_that_json_lacks_are_text(shop: str):
    assert await rows(shop, "SELECT 9e999 AS a, -9e999 AS b, 0.1 AS c") == [
        {"a": "Infinity", "b": "-Infinity", "c": 0.1}
    ]


# --- PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with launcher.postgres() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE done (n int PRIMARY KEY)")
            connection.execute("CREATE TABLE calls (n int)")
            connection.execute(
                "CREATE FUNCTION note(n int) RETURNS int LANGUAGE sql AS 'INSERT INTO calls VALUES (n) RETURNING n'"
            )
        yield url


@pytest.fixture
def done(server: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("TRUNCATE done, calls")
        connection.execute("INSERT INTO done SELECT generate_series(1, 3000)")
    return server


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert row is not None
        return int(row[0])


MOVED = "with moved as (delete from done where n < 5 returning n) select count(*) as n from moved"


async def test_a_with_that_deletes_works_where_changes_are_allowed(done: str):
    assert await rows(done, MOVED, read_only=False) == [{"n": 4}]
    assert count(done, "done") == 2996
    assert (await refusal(done, MOVED))[0] == "sql_refused"
    assert count(done, "done") == 2996


DISGUISED = [
    "/* select */ DELETE FROM done",
    "((((WITH x AS (UPDATE done SET n = -n RETURNING n) SELECT * FROM x))))",
    "EXPLAIN (ANALYZE) DELETE FROM done",
    "SELECT n INTO copied FROM done",
    "SELECT note(1)",
    "WITH x AS (SELECT note(n) FROM done) SELECT * FROM x",
    "PREPARE p AS DELETE FROM done",
    "SELECT * FROM done FOR UPDATE",
    "SELECT 1; DELETE FROM done",
    "SELECT ';' ; COMMIT; DELETE FROM done",
    "DECLARE c CURSOR FOR SELECT note(1)",
    "DO $$ BEGIN DELETE FROM done; END $$",
    "CALL nothing()",
    "COPY done FROM PROGRAM 'echo 1'",
    "MERGE INTO done USING (SELECT 1 AS n) AS x ON done.n = x.n WHEN MATCHED THEN DELETE",
    "TRUNCATE done",
]


@pytest.mark.parametrize("text", DISGUISED)
async def test_a_writing_statement_is_refused_in_every_disguise(done: str, text: str):
    ended = await query(done, text)
    assert ended.error is not None or "PREPARE" in text or "DECLARE" in text  # which do nothing by themselves
    assert (count(done, "done"), count(done, "calls")) == (3000, 0)


@pytest.mark.parametrize("text", ["SELECT 1; SELECT 2", "DELETE FROM done; SELECT 1", "SELECT '%'; COMMIT; SELECT 1"])
async def test_several_statements_are_refused(done: str, text: str):
    assert (await refusal(done, text, read_only=False))[0] == "sql_refused"
    assert count(done, "done") == 3000


@pytest.mark.parametrize(
    ("text", "table", "left"),
    [
        ("SELECT note(n) FROM done", "calls", 3000),
        ("DELETE FROM done RETURNING n", "done", 0),
        ("WITH gone AS (DELETE FROM done RETURNING n) SELECT note(n) FROM gone", "calls", 3000),
    ],
)
async def test_a_cut_of_the_rows_leaves_the_effects_whole(done: str, text: str, table: str, left: int):
    ended = await query(done, text, read_only=False, max_rows=2)
    assert ended.error is None, ended.error.message
    assert (ended.output["row_count"], ended.output["truncated"]) == (2, True)
    assert count(done, table) == left


async def test_effects_before_a_failure_beyond_the_cut_are_undone(done: str):
    text = "SELECT note(1 / (2500 - n)) FROM done ORDER BY n"
    assert "division by zero" in (await refusal(done, text, read_only=False, max_rows=2))[1]
    assert count(done, "calls") == 0


async def test_a_table_is_made_of_a_selection(done: str):
    await query(done, "SELECT n INTO made FROM done", read_only=False)
    assert count(done, "made") == 3000


VALUES = {
    "0.0000001::numeric": "0.0000001",
    "1e30::numeric": "1000000000000000000000000000000",
    "'NaN'::numeric": "NaN",
    "'Infinity'::numeric": "Infinity",
    "'-Infinity'::float8": "-Infinity",
    "0.1::float8": 0.1,
    "interval '1 month'": "P1M",
    "interval '-1 day 2 hours'": "P-1DT2H",
    "interval '0'": "PT0S",
    "date '2026-01-02'": "2026-01-02",
    "date '0044-03-15 BC'": "0044-03-15 BC",
    "date 'infinity'": "infinity",
    "date '12026-01-02'": "12026-01-02",
    "timestamp '2026-01-02 03:04:05.5'": "2026-01-02T03:04:05.500000",
    "timestamp '-infinity'": "-infinity",
    "timestamptz '0044-03-15 00:00Z BC' at time zone 'UTC'": "0044-03-15 00:00:00 BC",
    "time '24:00'": "24:00:00",
    "time '23:59:01'": "23:59:01",
    "timetz '24:00+02'": "24:00:00+02",
    "ARRAY[date 'infinity', NULL]": ["infinity", None],
    "ARRAY[interval '1 year']": ["P1Y"],
    '\'{"a": 1e400, "b": 1.5}\'::jsonb': {"a": 10**400, "b": 1.5},
    "'{\"a\": 1e400}'::json": {"a": "1e400"},
    "B'101'": "101",
    "daterange('2026-01-01', 'infinity')": "[2026-01-01,infinity)",
    "int4multirange(int4range(1, 3))": "{[1,3)}",
    "'\\x00ff'::bytea": "AP8=",
    "'10.0.0.1/24'::inet": "10.0.0.1/24",
    "'12.50'::money::numeric": "12.50",
    "ROW(1, 'a')": ["1", "a"],
    "point(1, 2)": "(1,2)",
    "'550e8400-e29b-41d4-a716-446655440000'::uuid": "550e8400-e29b-41d4-a716-446655440000",
}


async def test_every_value_has_a_json_form(server: str):
    text = "SELECT " + ", ".join(f"{expression} AS v{n}" for n, expression in enumerate(VALUES))
    (row,) = await rows(server, text)
    assert dict(zip(VALUES, row.values(), strict=True)) == VALUES


async def test_the_form_does_not_depend_on_who_connects(server: str):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE ROLE german LOGIN")
        connection.execute("ALTER ROLE german SET datestyle = 'German, DMY'")
        connection.execute("ALTER ROLE german SET intervalstyle = 'postgres_verbose'")
        connection.execute("ALTER ROLE german SET standard_conforming_strings = off")
    url = f"postgresql://german@{server.partition('@')[2]}"
    text = "SELECT date '2026-01-02' AS d, date '03/04/2026' AS dmy, interval '1 month' AS i, 'a\\' AS s, :x AS x"
    (row,) = await rows(url, text, params={"x": "y"})
    assert row == {"d": "2026-01-02", "dmy": "2026-04-03", "i": "P1M", "s": "a\\", "x": "y"}
