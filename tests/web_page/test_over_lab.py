"""The dashboard over a running lab: cluster, plant and daemons; its screenshots are those of the docs.

SLURM_POWER_FIGURES=docs/figures writes them there.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import StartedLab, up
from tests.loop.bed import Bed
from tests.web_page.browser import Browser
from tests.web_page.site_server import recorded

pytestmark = [pytest.mark.slow, pytest.mark.loop, pytest.mark.slurm, pytest.mark.timeout(600)]

MOST_FIGURE_BYTES = 250_000
SAFE = re.compile(r"SAFE: grid is \d+\.\d kW below its limit of \d+\.\d kW")
AT_RISK = re.compile(r"AT RISK: grid is \d+\.\d kW above its limit")


@pytest.fixture(scope="module")
def started() -> Iterator[StartedLab]:
    lab = up(Options(power=True, web=True))
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def bed(started: StartedLab) -> Bed:
    return Bed(started.lab)


def link(bed: Bed, user: str) -> str:
    """A link that logs a user in, as the user gets it on a host of the cluster."""
    own = {"PYTHONPATH": str(CHECKOUT)}
    return bed.lab.run(["slurm-power", "web", "login"], user=user, environment=own).stdout.strip()


def figure(browser: Browser, name: str, folder: Path) -> None:
    """Write a screenshot for the docs if they are asked for, else into ``folder``."""
    asked = os.environ.get("SLURM_POWER_FIGURES")
    file = (CHECKOUT / asked if asked else folder) / f"dashboard-{name}.png"
    browser.screenshot(file)
    assert 10_000 < file.stat().st_size <= MOST_FIGURE_BYTES, file


def scene(bed: Bed) -> None:
    """Two trainings at work, a massive start to come, a grid event, and a GPU that nobody can read."""
    bed.plant("set_soc", soc_ratio=0.24)
    one = bed.submit("--job-name=pretrain", seconds=400, flex="flex2")
    bed.submit("--job-name=chatbot", "--nodelist=c2", user="bob", seconds=400, flex="flex1")
    bed.run_full(one)
    words = ("--job-name=llm-70b", "--nodes=2", "--nodelist=c3,c4", "--begin=now+210")
    bed.submit(*words, user="bob", seconds=120)
    bed.announce(14_500, 300, reason="the utility asks for less", in_seconds=20)
    bed.plant("fault", target="gpu.c1.5", fault="lost", value=0)


def all_in_sight(browser: Browser) -> bool:
    return (
        "Massive start" in browser.text("#power-starts")
        and "running" in browser.text("#events-list")
        and "GPU 5 of c1" in browser.text("#sources-rows")
        and "W/GPU" in browser.text("#jobs tbody")
        and SAFE.fullmatch(browser.text("h1")) is not None
    )


def test_the_dashboard_of_a_running_lab(bed: Bed, browser: Browser, tmp_path: Path) -> None:
    browser.network()
    browser.open(bed.lab.login_link())
    browser.until_pictures()
    milliseconds = browser.ask("return performance.now()")
    events = browser.network()
    sizes = [
        event["params"]["encodedDataLength"]
        for event in events
        if event["method"] == "Network.loadingFinished"
    ]
    print(f"first picture {milliseconds:.0f} ms after the page's start, {sum(sizes)} bytes until then")
    assert sum(sizes) <= 500_000
    assert milliseconds < 20_000
    browser.until(lambda: SAFE.fullmatch(browser.text("h1")), "SAFE")
    assert browser.text("#who") == "root, operator"

    scene(bed)
    browser.until(
        lambda: all_in_sight(browser), "start, event, dead sensor and caps in a safe site", seconds=90
    )
    figure(browser, "desktop", tmp_path)
    browser.features(prefers_color_scheme="dark")
    browser.until_pictures(2)
    figure(browser, "dark", tmp_path)
    browser.features(prefers_color_scheme="light")
    browser.size(390, 844)
    browser.until_pictures(2)
    assert browser.ask("return document.documentElement.scrollWidth") <= 390
    figure(browser, "phone", tmp_path)
    browser.size(1440, 900)

    # More than all levers hold: what no job draws cannot be capped.
    bed.plant("base_load", watts=15_000)
    browser.until(lambda: AT_RISK.fullmatch(browser.text("h1")), "AT RISK", seconds=40)
    assert browser.ask("return document.getElementById('headline').dataset.standing") == "risk"
    browser.until_pictures(2)
    figure(browser, "risk", tmp_path)
    bed.plant("base_load", watts=0)
    browser.until(lambda: SAFE.fullmatch(browser.text("h1")), "SAFE again", seconds=60)

    (event,) = bed.glance()["events"]
    browser.click(f"[aria-label='Cancel event {event['event_id']}']")
    browser.fill("dialog textarea", "the utility takes it back")
    browser.click("dialog input[name=sure]")
    browser.click("dialog button.deed")
    browser.until(lambda: "is cancelled" in browser.text("#told"), "the deed")
    entries = bed.ledger(60.0)
    assert any(row["actor"] == "operator:root (web)" and "event" in row["kind"] for row in entries), entries[
        -5:
    ]
    assert not browser.complaints()


def test_a_user_sees_their_own_jobs_and_nobody_elses(bed: Bed, browser: Browser) -> None:
    browser.open(link(bed, "alice"))
    browser.until_pictures()
    assert browser.text("#who") == "alice, user"
    assert "bob" not in browser.ask("return document.body.textContent")
    assert not browser.ask("return document.getElementById('controls').checkVisibility()")


def test_the_recorded_picture_has_the_keys_of_a_real_one(started: StartedLab, bed: Bed) -> None:
    """What the fast tests of this folder are told is what powerctld tells."""
    real, told = bed.ask("live"), recorded("live")
    assert real.keys() - {"ok"} == told.keys()

    def keys(rows: list[dict[str, Any]]) -> set[str]:
        return set().union(*(row.keys() for row in rows))

    for name in ("standing", "job_counts", "sources", "leases", "levers", "forecast", "fairness", "policy"):
        assert real[name].keys() == told[name].keys(), name
    for name in ("circuits", "ess"):
        assert keys(real[name]) == keys(told[name]), name
    assert real["ess"][0]["next"].keys() == told["ess"][0]["next"].keys()
