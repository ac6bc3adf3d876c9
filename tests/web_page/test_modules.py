"""The page's modules that have no document in them, each by itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.web_page.browser import Browser
from tests.web_page.site_server import Site, serving


@pytest.fixture(scope="module")
def page(chromium: Browser) -> Iterator[Browser]:
    """A page of the server, so that its modules may be asked for."""
    with serving(Site()) as address:
        chromium.open(f"{address}icon.svg")
        yield chromium
        chromium.open("about:blank")


def in_module(browser: Browser, name: str, script: str, *words: Any) -> Any:
    """Run ``script`` with ``m``, one of the page's modules."""
    return browser.driver.execute_async_script(
        "const done = arguments[arguments.length - 1]; const words = [...arguments].slice(0, -1);"
        f"import('./{name}.js').then((m) => done((() => {{ {script} }})()), (error) => done(String(error)));",
        *words,
    )


def test_the_ring_forgets_what_is_old(page: Browser) -> None:
    found = in_module(
        page, "ring",
        "const ring = new m.Ring(); let most = 0;"
        "for (let at = 0; at < 90000; at += 1) {"
        "  ring.push({at}); most = Math.max(most, ring.points.length); }"
        "ring.push({at: 5}); return [most, ring.points.at(-1).at];",
    )  # fmt: skip
    assert found == [4000, 89_999]


def test_numbers_are_written_for_people(page: Browser) -> None:
    found = in_module(
        page, "format",
        "return [m.watts(0), m.watts(-0.2), m.watts(950), m.watts(16340), m.watts(12345678),"
        " m.watts(null), m.watts(NaN), m.duration(45), m.duration(720), m.duration(11100),"
        " m.duration(187200), m.percent(0.456), m.secondsOf('x')]",
    )  # fmt: skip
    assert found == [
        "0 W", "0 W", "950 W", "16.3 kW", "12.35 MW", "\u2013", "\u2013",
        "45 s", "12 min", "3 h 05 min", "2 d 4 h", "46 %", None,
    ]  # fmt: skip


def test_the_columns_of_the_chart_are_in_order_and_end_in_the_forecast(page: Browser) -> None:
    """History, then live points, then the forecast's means in the middle of their steps; a hole is a hole."""
    history = {
        "at_seconds": [10, 20, 30, 90],
        "watts": [1, 2, 3, 4],
        "limit_watts": [9, 9, 9, 9],
        "natural_watts": [1, 2, 3, 4],
    }
    steps = {
        "issued_seconds": 60,
        "step_seconds": 60,
        "p10_watts": [1, 2, 3],
        "p50_watts": [2, 4, 6],
        "p90_watts": [3, 6, 9],
    }
    forecast = {"forecasts": {"near": steps}, "supply": {"near": {"limit_watts": [9, 5, 9]}}}
    now = {"at": 100, "watts": 5, "limit": 9, "level": None}
    script = "return m.columns('hour', words[0], [{at: 95, watts: 4.5, limit: 9}], words[1], words[2]);"
    columns = in_module(page, "chart_data", script, history, forecast, now)
    at, measured, limit, _, low, middle, high, _ = columns
    assert at == sorted(set(at))
    assert measured[: at.index(100) + 1] == [1, 2, 3, None, 4, 4.5, 5]
    assert (low[at.index(100)], middle[at.index(100)], high[at.index(100)]) == (5, 5, 5)
    assert (at[-1], low[-1], middle[-1], high[-1]) == (210, 3, 6, 9)
    assert limit[at.index(120)] == 5  # an event's limit holds from where its step begins
    # An event that came after the forecast was made.
    now["events"] = [{"from": 170, "to": 200, "watts": 2}]
    at, _, limit, *_ = in_module(page, "chart_data", script, history, forecast, now)
    assert (limit[at.index(120)], limit[at.index(180)]) == (5, 2)


def test_own_jobs_come_first_whatever_the_order(page: Browser) -> None:
    rows = ((1, "bob", 9.0), (2, "alice", 1.0), (3, "bob", None), (10, "alice", 2.0))
    jobs = [
        {"job_id": str(number), "user": user, "gpu_watts": watts, "state": "running"}
        for number, user, watts in rows
    ]
    script = (
        "const how = {text: '', state: 'all', column: 'watts', down: words[1], own: 'alice'};"
        "return m.chosen(words[0], how).map(j => j.job_id)"
    )
    assert in_module(page, "jobs_table", script, jobs, True) == ["10", "2", "1", "3"]
    assert in_module(page, "jobs_table", script, jobs, False) == ["2", "10", "3", "1"]


def test_the_tree_puts_children_below_their_parents(page: Browser) -> None:
    circuits = [
        {"name": name, "parent": parent, "watts": watts, "limit_watts": 100.0}
        for name, parent, watts in (
            ("r10", "grid", 10.0),
            ("grid", None, 50.0),
            ("r2", "grid", 10.0),
            ("full", "grid", 95.0),
            ("c1", "r2", None),
        )
    ]
    script = (
        "return m.treeRows(words[0], (name, depth) => depth > 0 && words[1], null)"
        ".map(r => [r.circuit.name, r.depth])"
    )
    assert in_module(page, "tree", script, circuits, False) == [
        ["grid", 0],
        ["full", 1],
        ["r2", 1],
        ["c1", 2],
        ["r10", 1],
    ]
    assert in_module(page, "tree", script, circuits, True) == [
        ["grid", 0],
        ["full", 1],
        ["r2", 1],
        ["r10", 1],
    ]
