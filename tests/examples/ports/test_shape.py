"""The ports are what `docs/how-to/coming-from.md` says of them: one readable file each, valid, without a warning."""

from collections import Counter

import pytest
from typer.testing import CliRunner

from pyflow.cli import app
from tests.support.ports import PORTS

FILES = sorted(path.name for path in PORTS.iterdir())
SYSTEMS = {
    "airflow": "Airflow",
    "argo": "Argo Workflows",
    "github": "GitHub Actions",
    "kestra": "Kestra",
    "n8n": "n8n",
    "prefect": "Prefect",
    "stepfunctions": "Step Functions",
    "temporal": "Temporal",
}


@pytest.mark.parametrize("name", FILES)
def test_a_port_is_short_and_names_its_system_and_has_no_warning(name: str):
    lines = (PORTS / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 140
    assert lines[0].startswith(f"# {SYSTEMS[name.partition('-')[0]]}: ")
    assert "version: 2" in lines
    assert f"name: {name.removesuffix('.yaml')}" in lines
    done = CliRunner().invoke(app, ["validate", str(PORTS / name), "--strict"])
    assert done.exit_code == 0, done.output


def test_there_are_several_ports_of_each_system():
    ports = Counter(name.partition("-")[0] for name in FILES)
    assert ports.keys() == SYSTEMS.keys()
    assert len(FILES) >= 20
    assert min(ports.values()) >= 2
