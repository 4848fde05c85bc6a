"""`pyflow serve` with files that are no workflows."""

from pathlib import Path

import httpx2

from pyflow.server import create_app

FLOW = "name: {name}\ntrigger: {{type: manual}}\nnodes: [{{id: a, type: log, config: {{message: {name}}}}}]\n"


async def test_a_wrong_file_keeps_no_other_from_being_reloaded(tmp_path: Path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(FLOW.format(name="one"))
    bad.write_text(FLOW.format(name="kept"))
    transport = httpx2.ASGITransport(create_app(tmp_path))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        good.write_text(FLOW.format(name="two"))
        bad.write_text("name: [")
        answer = await http.post("/reload")
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("These files were not reloaded, all others were:\nbad.yaml: line 2")
        assert {entry["name"] for entry in (await http.get("/workflows")).json()} == {"two", "kept"}
        bad.unlink()
        assert (await http.post("/reload")).json() == {"status": "ok", "workflows": 1}
