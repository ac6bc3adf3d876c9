"""The Grafana dashboard: every expression in it finds something in an engine that has scraped powerctld."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.records.metrics import exposition
from slurm_power.plan.policy import Policy
from tests.controller.test_metrics import OWN
from tests.plan.situations import cap_lease, running, situation
from tests.store.test_prometheus import Victoria

FILE = Path(__file__).parents[2] / "docs" / "grafana" / "slurm-power.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    """An engine with three scrapes of a busy site, the last one now."""
    engine = Victoria(tmp_path_factory.mktemp("victoria"))
    engine.start()
    snapshot = situation(jobs=(running("1", ("c1",)),), caps={"1": cap_lease("1", 500.0)})
    page = exposition(snapshot, Policy(), OWN, {"1": 5e6}, users=False)
    now = time.time()
    for age_seconds in (60, 30, 0):
        at_ms = int(1000 * (now - age_seconds))
        request = urllib.request.Request(
            f"{engine.url}/api/v1/import/prometheus?timestamp={at_ms}", data=page.encode()
        )
        urllib.request.urlopen(request, timeout=10.0).close()
    engine.get("/internal/force_flush")
    yield engine
    engine.stop()


def found(engine: Victoria, expression: str) -> list[dict[str, Any]]:
    query = urllib.parse.urlencode({"query": expression, "time": time.time() + 1, "nocache": 1})
    with urllib.request.urlopen(f"{engine.url}/api/v1/query?{query}", timeout=10.0) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_expression_finds_something(scraped: Victoria, title: str, expression: str) -> None:
    assert found(scraped, expression.replace("$site", "test").replace("$circuit", "grid")), title


def test_the_variables_come_from_what_is_there(scraped: Victoria) -> None:
    queries = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    for query in queries:
        metric = query.removeprefix("label_values(").rpartition(",")[0].replace("$site", "test")
        label = query.rpartition(",")[2].strip(" )")
        assert all(label in series["metric"] for series in found(scraped, metric))
        assert found(scraped, metric)


def test_panels_have_a_place_of_their_own_and_a_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = sorted(panel["id"] for panel in DASHBOARD["panels"])
    assert all(one < other for one, other in pairwise(ids))
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
