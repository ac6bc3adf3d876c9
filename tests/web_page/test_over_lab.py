"""The dashboard over a running lab: cluster, plant and daemons; its screenshots are those of the docs.

SLURM_POWER_FIGURES=docs/figures writes them there.
"""

import json
import os
import re
import socket
import subprocess
import sys
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
AT_RISK = re.compile(r"AT RISK: nobody measures grid")


@pytest.fixture(scope="module")
def started() -> Iterator[StartedLab]:
    lab = up(Options(power=True))
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def bed(started: StartedLab) -> Bed:
    return Bed(started.lab)


@pytest.fixture(scope="module")
def web(bed: Bed) -> Iterator[None]:
    """The lab's powerweb; powerctld is started anew, so that both know of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bed.site_file.write_text(f'{bed.site_toml}\n[web]\nlisten = "127.0.0.1:{port}"\n')
    bed.lab.restart("powerctld")
    bed.until_all_nodes_report()
    words = [sys.executable, "-m", "slurm_power.cli.powerweb", "--config", str(bed.site_file)]
    with (bed.run / "powerweb.log").open("w") as log:
        process = subprocess.Popen(words, cwd=CHECKOUT, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def link(bed: Bed, user: str = "root") -> str:
    """A link that logs a user in, as the user gets it on a host of the cluster."""
    socket_path = str(bed.run / "run" / "powerctld.sock")
    words = ["slurm-power", "web", "login", "--socket", socket_path, "--json"]
    found: str = json.loads(bed.lab.run(words, user=user).stdout)["url"]
    return found


def figure(browser: Browser, name: str, folder: Path) -> None:
    """Write a screenshot for the docs if they are asked for, else into ``folder``."""
    asked = os.environ.get("SLURM_POWER_FIGURES")
    file = (CHECKOUT / asked if asked else folder) / f"dashboard-{name}.png"
    browser.screenshot(file)
    assert 10_000 < file.stat().st_size <= MOST_FIGURE_BYTES, file


def scene(bed: Bed) -> None:
    """Two trainings at work, a massive start to come, a grid event, and a GPU that nobody can read."""
    bed.plant("set_soc", soc_ratio=0.62)
    one = bed.submit("--job-name=pretrain", seconds=400, flex="flex2")
    bed.submit("--job-name=chatbot", "--nodelist=c2", user="bob", seconds=400, flex="flex1")
    bed.run_full(one)
    words = ("--job-name=llm-70b", "--nodes=2", "--nodelist=c3,c4", "--begin=now+200")
    bed.submit(*words, user="bob", seconds=120)
    bed.announce(17_000, 300, reason="the utility asks for less", in_seconds=20)
    bed.plant("fault", target="gpu.c1.5", fault="lost", value=0)


def all_in_sight(browser: Browser) -> bool:
    return (
        "Massive start" in browser.text("#power-starts")
        and "running" in browser.text("#events-list")
        and "GPU 5 of c1" in browser.text("#sources-rows")
        and "W/GPU" in browser.text("#jobs tbody")
        and SAFE.fullmatch(browser.text("h1")) is not None
    )


def test_the_dashboard_of_a_running_lab(web: None, bed: Bed, browser: Browser, tmp_path: Path) -> None:
    browser.until(lambda: link(bed), "a link")
    browser.network()
    browser.open(link(bed))
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

    bed.plant("fault", target="meter", fault="hang", value=0)
    browser.until(lambda: AT_RISK.fullmatch(browser.text("h1")), "AT RISK", seconds=40)
    assert browser.ask("return document.getElementById('headline').dataset.standing") == "risk"
    browser.until_pictures(2)
    figure(browser, "risk", tmp_path)
    bed.plant("clear_faults")
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


def test_a_user_sees_their_own_jobs_and_nobody_elses(web: None, bed: Bed, browser: Browser) -> None:
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
