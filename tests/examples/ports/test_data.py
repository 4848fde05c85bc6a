"""Ports that shape data: files, rows, reports."""

from tests.support.factories.stage import states
from tests.support.ports import Ports
from tests.support.servers.scripted import Answer, Scripted


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
