"""A day in front of the page at speed: 86,400 pictures over its stream, each drawn; what it holds is bounded.

The page's clocks move one second with each picture, so that it asks for forecast, ledger, history and
savings as often as in a real day.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.web_page.browser import Browser, browsing
from tests.web_page.site_server import Serving, Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DAY_SECONDS = 86_400
AT_ONCE = 240
# By then the ring of points is full for the first time, and every list has had its longest.
FIRST_SECONDS = 7_200
MOST_HEAP_BYTES = 16e6
# Frames come 60 times a second at most, a day of them in half an hour. So each is drawn when asked for.
FASTER = """
let passed = 0;
performance.now = () => passed;
window.requestAnimationFrame = (paint) => { passed += 1000; paint(passed); return 0; };
"""
JOBS = 12


@pytest.fixture
def unwatched() -> Iterator[Browser]:
    with browsing(watched=False) as browser:
        browser.size(1440, 2400)  # with all panels in sight
        yield browser


def picture(base: dict[str, Any], began_seconds: float, second: int) -> dict[str, Any]:
    """One second of a day with a new job every 20 s, an event each hour, sources that come and go."""
    grid, *rest = base["circuits"]
    first_job = second // 20
    jobs = [
        {
            **base["jobs"][place % 2],
            "job_id": str(1000 + first_job + place),
            "gpu_watts": 3000.0 + second % 777,
        }
        for place in range(JOBS)
    ]
    event = {
        **base["events"][0],
        "event_id": f"ev-{second // 3600}",
        "ends_in_seconds": 3600.0 - second % 3600,
    }
    bad = {
        **base["sources"]["bad"][0],
        "source": f"gpu-{second // 300}",
        "measures": f"GPU {second // 300 % 8} of c1",
    }
    alert = {
        "id": f"dead_source:{second // 600}",
        "rule": "dead_source",
        "severity": "warn",
        "state": "firing",
        "summary": f"GPU {second // 600} does not answer",
        "what_to_do": "look at it",
        "since": base["at"],
        "effects": [],
    }
    start = {**base["starts"][0], "job_id": str(second // 900), "lead_seconds": 900.0 - second % 900}
    return {
        **base,
        "at": datetime.fromtimestamp(began_seconds + second, UTC).isoformat(),
        "you": {"name": "root", "role": "operator"},
        "circuits": [{**grid, "watts": 12_000.0 + second % 2500}, *rest],
        "jobs": jobs,
        "events": [event],
        "sources": {**base["sources"], "bad": [bad]},
        "alerts": [alert],
        "starts": [start],
    }


def drawn(browser: Browser) -> int:
    return int(browser.ask("return document.body.dataset.pictures ?? 0"))


def until_drawn(browser: Browser, count: int) -> None:
    browser.until(lambda: drawn(browser) >= count, f"picture {count}", seconds=60)


def fits(found: dict[str, float], first: dict[str, float]) -> bool:
    """Whether a page is as small as it was."""
    return (
        found["JSHeapUsedSize"] <= min(MOST_HEAP_BYTES, first["JSHeapUsedSize"] * 1.25 + 1e6)
        and found["Nodes"] <= first["Nodes"] * 1.1 + 100
        and found["JSEventListeners"] <= first["JSEventListeners"] * 1.1 + 20
    )


def settled(browser: Browser, first: dict[str, float] | None) -> dict[str, float]:
    """The page's figures, once the answers to what was asked at speed have come; fails if it has grown."""

    def small() -> dict[str, float] | None:
        found = browser.measures()
        return found if first is None or fits(found, first) else None

    figures: dict[str, float] = browser.until(small, f"a page as small as {first}")
    return figures


def test_a_day_in_front_of_the_page_leaves_it_as_small(unwatched: Browser, server: Serving) -> None:
    site = Site()
    entries = site.answers["ledger"]["entries"]
    began_seconds = datetime.now(UTC).timestamp()
    server.tell(site)
    site.play([picture(site.picture, began_seconds, 0)])
    unwatched.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
    unwatched.open(server.address)
    until_drawn(unwatched, 1)
    seen: dict[int, dict[str, float]] = {}
    for second in range(1, DAY_SECONDS + 1, AT_ONCE):
        upto = min(second + AT_ONCE, DAY_SECONDS + 1)
        site.answers["ledger"]["entries"] = [
            {**entry, "sequence": entry["sequence"] + second} for entry in entries
        ]
        site.play([picture(site.picture, began_seconds, one) for one in range(second, upto)])
        until_drawn(unwatched, upto)
        site.asked.clear()
        if second >= FIRST_SECONDS and (second - 1) % FIRST_SECONDS == 0:
            seen[second - 1] = settled(unwatched, seen.get(FIRST_SECONDS))
    assert drawn(unwatched) == DAY_SECONDS + 1
    seen[DAY_SECONDS] = settled(unwatched, seen[FIRST_SECONDS])
    for at, found in seen.items():
        print(
            f"after {at / 3600:4.0f} h: {found['JSHeapUsedSize'] / 1e6:.1f} MB, {found['Nodes']:.0f} nodes,"
            f" {found['JSEventListeners']:.0f} listeners"
        )
