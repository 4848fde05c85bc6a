"""Ports that shape data: files, rows, reports."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import parse_qs

from pyflow.testing import ManualClock
from tests.support.factories.stage import states
from tests.support.ports import Ports
from tests.support.servers.scripted import Answer, Asked, Scripted


async def test_mapped_tasks_are_reduced_and_one_may_fail(ports: Ports, service: Scripted):
    names = [f"{number}.csv" for number in range(10)]
    service.answers["GET /inbox"] = {"names": names}
    for number, name in enumerate(names):
        service.answers[f"GET /inbox/{name}/lines"] = {"lines": number}
    service.answers["GET /inbox/9.csv/lines"] = [Answer(503), {"lines": 9}]
    result = await ports.run("airflow-mapped-tasks", bucket="inbox")
    assert result.outputs == {"lines": 45, "files": 10}
    assert service.asked[0].query == "suffix=.csv"
    assert ports.stored("counts/inbox.json") == {"total": 45, "missing": []}

    service.answers["GET /inbox/4.csv/lines"] = Answer(422)
    partly = await ports.run("airflow-mapped-tasks", bucket="inbox")
    assert (partly.state, partly.outputs["lines"]) == ("succeeded", 41)
    assert ports.stored("counts/inbox.json") == {"total": 41, "missing": ["4.csv"]}

    service.answers["GET /inbox/5.csv/lines"] = Answer(422)
    failed = await ports.run("airflow-mapped-tasks", bucket="inbox")
    assert (failed.state, states(failed)["report"]) == ("failed", "skipped")

    service.answers["GET /inbox"] = {"names": []}
    empty = await ports.run("airflow-mapped-tasks", bucket="inbox")
    assert empty.outputs == {"lines": 0, "files": 0}


async def test_rows_are_loaded_once_however_often_it_runs(ports: Ports, service: Scripted):
    orders = [
        {"id": "1", "country": "DE", "amount": 10.5},
        {"id": "2", "country": "FR", "amount": 30},
        {"id": "3", "country": "DE", "amount": 4.25},
    ]
    service.answers["GET /orders/2026-11-30.json"] = Answer(200, orders)
    service.answers["GET /orders/2026-12-01.json"] = Answer(200, [{"id": "4", "country": "it's", "amount": 1}])
    for _ in range(2):
        result = await ports.run("kestra-sqlite-report", day="2026-11-30")
        assert result.outputs["countries"] == [
            {"country": "FR", "orders": 1, "revenue": 30.0},
            {"country": "DE", "orders": 2, "revenue": 14.75},
        ]
    report = ports.text(result.outputs["report"])
    assert report.splitlines() == ["country,orders,revenue", "FR,1,30.0", "DE,2,14.75"]
    other = await ports.run("kestra-sqlite-report", day="2026-12-01")
    assert other.outputs["countries"] == [{"country": "it's", "orders": 1, "revenue": 1.0}]

    missing = await ports.run("kestra-sqlite-report", day="2026-12-02")
    assert (missing.state, missing.error.kind) == ("failed", "http_404")
    assert states(missing)["load"] == "skipped"


async def test_a_form_becomes_a_lead_or_is_kept_apart(ports: Ports, service: Scripted):
    form = {"name": "Ada", "email": "ada@example.com", "text": "hello"}
    service.answers |= {"POST /spam-score": {"score": 0.1}, "POST /leads": {}, "POST /chat": "ok"}
    result = await ports.run("n8n-contact-form", **form)
    assert (result.outputs, service.bodies("POST /leads")) == ({"accepted": True}, [form])
    assert service.bodies("POST /chat") == [{"text": "Ada asks: hello"}]

    service.answers["POST /chat"] = Answer(400)
    assert (await ports.run("n8n-contact-form", **form)).state == "succeeded"

    service.asked.clear()
    service.answers["POST /spam-score"] = {"score": 0.97}
    spam = await ports.run("n8n-contact-form", **form)
    assert (spam.outputs, service.lines) == ({"accepted": False}, ["POST /spam-score"])
    assert (states(spam)["lead"], states(spam)["chat"]) == ("skipped", "skipped")
    assert ports.stored("contact/spam.json") == [form]


async def test_a_day_is_transformed_and_loaded_as_often_as_you_like(ports: Ports, service: Scripted):
    warehouse = ports.folder / "warehouse.db"
    with closing(sqlite3.connect(warehouse)) as database:
        database.execute("CREATE TABLE revenue (day TEXT, country TEXT, amount REAL, PRIMARY KEY (day, country))")
    ports.secrets["WAREHOUSE"] = "sqlite:///warehouse.db"
    lines = ["id;country;state;amount", "1;DE;paid;10.10", "2;FR;paid;5", "3;DE;open;99", "4;DE;paid;0.40", ""]
    service.answers["GET /orders.csv"] = "\n".join(lines)
    for _ in range(2):
        result = await ports.run("airflow-daily-etl", day="2026-03-01")
        assert result.outputs == {"day": "2026-02-28", "totals": {"DE": 10.5, "FR": 5.0}, "revenue": 15.5}
    assert parse_qs(service.asked[0].query) == {"from": ["2026-02-28"], "to": ["2026-03-01"]}
    with closing(sqlite3.connect(warehouse)) as database:
        rows = database.execute("SELECT * FROM revenue ORDER BY country").fetchall()
    assert rows == [("2026-02-28", "DE", 10.5), ("2026-02-28", "FR", 5.0)]

    service.answers["GET /orders.csv"] = "id;country;state;amount\n1;DE;paid;ten\n"
    wrong = await ports.run("airflow-daily-etl", day="2026-03-01")
    assert (wrong.state, wrong.error.node_id, states(wrong)["load"]) == ("failed", "transform", "skipped")


async def test_rows_of_a_file_are_checked_and_some_may_fail(ports: Ports, service: Scripted):
    rows = ["customer;zip;country", "1;10115;DE", "2;75001;FR", "3;0000;US", "4;99999;DE", "5;50667;DE"]

    def check(asked: Asked) -> object:
        return Answer(422) if "zip=99999" in asked.query else {"ok": True}

    service.answers |= {"GET /exports/may.csv": "\n".join(rows), "GET /addresses": check}
    result = await ports.run("stepfunctions-distributed-map", export="may")
    assert (result.state, result.outputs) == ("succeeded", {"checked": 5, "report": "checks/may.json"})
    report = ports.stored("checks/may.json")
    found = {key: answer and answer["body"]["ok"] for key, answer in report.items()}
    assert found == {"1": True, "2": True, "3": None, "4": None, "5": True}
    items = {item.key: item.state for item in result.nodes["check"].items.values()}
    assert items == {"1": "succeeded", "2": "succeeded", "3": "skipped", "4": "failed", "5": "succeeded"}

    service.answers["GET /addresses"] = Answer(422)
    failed = await ports.run("stepfunctions-distributed-map", export="may")
    assert (failed.state, failed.error.code) == ("failed", "items_failed")


async def test_silent_issues_are_marked_and_then_closed(ports: Ports, service: Scripted):
    ports.secrets["GITHUB"] = "sesame-open"

    def issue(number: int, updated: str, *labels: str) -> dict[str, object]:
        return {"number": number, "updated_at": f"{updated}T12:00:00Z", "labels": list(labels)}

    first = [issue(1, "2026-11-29"), issue(2, "2026-09-01"), issue(3, "2026-09-01", "pinned")]
    second = [
        issue(4, "2026-11-20", "stale"),
        issue(5, "2026-11-25", "stale"),
        issue(6, "2026-01-01", "stale", "security"),
    ]
    path = "/repos/acme/shop/issues"

    def page(asked: Asked) -> Answer:
        if "page=2" in asked.query.split("&"):
            return Answer(200, second)
        return Answer(200, first, (("Link", f'<{service.url}{path}?page=2>; rel="next"'),))

    service.answers |= {f"GET {path}": page, f"POST {path}/2/labels": [Answer(429), {}], f"PATCH {path}/4": {}}
    result = await ports.run("github-stale-issues", repository="acme/shop")
    assert (result.state, result.outputs) == ("succeeded", {"marked": [2], "closed": [4]})
    assert service.bodies(f"POST {path}/2/labels") == [["stale"]] * 2
    assert service.bodies(f"PATCH {path}/4") == [{"state": "closed"}]
    assert len(service.asked) == 5

    service.answers[f"POST {path}/2/labels"] = Answer(404)
    failed = await ports.run("github-stale-issues", repository="acme/shop")
    assert (failed.state, failed.error.node_id) == ("failed", "mark")


async def test_the_report_is_about_yesterday_where_the_reader_is(ports: Ports, service: Scripted):
    temperatures = {"Berlin": [1, 5.5, 3], "Oslo": [-7.25, -2, -4]}

    def weather(asked: Asked) -> object:
        city = parse_qs(asked.query)["city"][0]
        return {"temperatures": temperatures[city]} if city in temperatures else Answer(404)

    service.answers["GET /hourly"] = weather
    ports.clock = ManualClock(datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp(), auto_advance=True)
    result = await ports.run("prefect-daily-report", cities=["Oslo", "Berlin", "Atlantis"])
    assert (result.state, result.outputs["warmest"]) == ("succeeded", "Berlin")
    assert ports.text("reports/2026-11-30.txt").splitlines() == [
        "Monday, 2026-11-30",
        "Oslo        -7.2 to  -2.0,  -4.4 on average",
        "Berlin       1.0 to   5.5,   3.2 on average",
        "No data of Atlantis",
    ]
    assert {parse_qs(asked.query)["date"][0] for asked in service.asked} == {"2026-11-30"}

    failed = await ports.run("prefect-daily-report", cities=["Atlantis", "Rungholt"])
    assert (failed.state, states(failed)["publish"]) == ("failed", "skipped")


async def test_parts_of_a_text_are_counted_and_added_up(ports: Ports, service: Scripted):
    lines = ["The cat sees the dog.", "The dog: asleep!", "A cat", "the end"]
    service.answers["GET /texts/tale"] = "\n".join(lines)
    for parts in (1, 3, 99):
        result = await ports.run("argo-map-reduce", text="tale", parts=parts)
        top = [{"word": "the", "count": 4}, {"word": "cat", "count": 2}, {"word": "dog", "count": 2}]
        assert sorted(result.outputs["top"], key=lambda row: (-row["count"], row["word"])) == top
        assert result.outputs["words"] == 12
        assert len(result.nodes["tally"].items) == {1: 1, 3: 2, 99: 4}[parts]
    service.answers["GET /texts/tale"] = ""
    empty = await ports.run("argo-map-reduce", text="tale")
    assert empty.outputs == {"top": [], "words": 0}
    wrong = await ports.run("argo-map-reduce", text="nothing")
    assert (wrong.state, wrong.error.kind, states(wrong)["reduce"]) == ("failed", "http_404", "skipped")
