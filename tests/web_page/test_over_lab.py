"""The dashboard over a running lab: cluster, plant and daemons; its screenshots are those of the docs.

SLURM_POWER_FIGURES=docs/figures writes them there.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from containers.cluster.layout import CHECKOUT, Options
from containers.cluster.lifecycle import StartedLab, up
from tests.loop.bed import Bed
from tests.loop.test_alerts import powerbridge
from tests.web_page.browser import Browser
from tests.web_page.site_server import recorded
from tests.web_page.test_recorded import differing

pytestmark = [pytest.mark.slow, pytest.mark.loop, pytest.mark.slurm, pytest.mark.timeout(600)]

MOST_FIGURE_BYTES = 100_000
COLOURS = 256
# Demand over 5 minutes, so that a month is reckoned by the minute: a lab lives for no quarter of an hour.
TARIFF = """
name = "lab"
demand_interval_minutes = 5
[[season]]
name = "all year"
from = "01-01"
to = "12-31"
[[season.period]]
price_per_kwh = 0.21
[[demand]]
name = "all hours"
price_per_kw = 9.5
"""
SAFE = re.compile(r"SAFE: grid is \d+\.\d kW below its limit of \d+\.\d kW")
AT_RISK = re.compile(r"AT RISK: grid is \d+\.\d kW above its limit")


@pytest.fixture(scope="module")
def started() -> Iterator[StartedLab]:
    lab = up(Options(power=True, web=True))
    etc = lab.lab.layout.etc
    (etc / "tariff.toml").write_text(TARIFF)
    with (etc / "site.toml").open("a") as site:
        site.write('\n[supply]\ntariff_file = "tariff.toml"\n')
    for name in ("powerctld", "powerweb"):
        lab.lab.restart(name)
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
    # The page has few colours: a table of them says the same in a third of the bytes.
    with Image.open(file) as picture:
        few = picture.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE)
    few.save(file, optimize=True)
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


def notice(browser: Browser, kind: str) -> str:
    """What the line below the heading says of a kind, if that is in the window without scrolling."""
    row = f"document.querySelector('.notices [data-kind={kind}]')"
    return str(
        browser.ask(f"""const row = {row};
        return row.checkVisibility() && row.getBoundingClientRect().bottom <= innerHeight ? row.innerText : ''
    """)
    )


def all_in_sight(browser: Browser) -> bool:
    return (
        "Massive start" in notice(browser, "starts")
        and "Grid event running" in notice(browser, "events")
        and "GPU 5 of c1" in notice(browser, "sources")
        and "alert" in notice(browser, "alerts")
        and "GPU 5 of c1" in browser.text("#sources-rows")
        and "W/GPU" in browser.text("#jobs tbody")
        and SAFE.fullmatch(browser.text("h1")) is not None
    )


def savings_are_told(bed: Bed, browser: Browser) -> None:
    """Money, peak, method and how sure, of the month as this lab's own store has it."""
    browser.until(lambda: "How sure" in browser.text("#savings-facts"), "the savings", seconds=90)
    said = browser.text("#savings-facts")
    assert re.search(r"Saved\n\d+\.\d\d money units of the tariff \(\d+\.\d %\)", said), said
    assert re.search(r"Bill so far\n\d+\.\d\d money units of the tariff instead of \d+\.\d\d", said), said
    assert re.search(r"Peak of 15 min\n\d+\.\d kW instead of \d+\.\d kW", said), said
    # Minutes of a month that has begun long ago: the page has to admit it.
    assert re.search(r"an estimate: \d\.\d % of the month so far was metered", said), said
    assert "replay of the metered load" in browser.text("#savings-note")
    print(f"savings of the lab: {said!r}")


def test_the_dashboard_of_a_running_lab(bed: Bed, browser: Browser, tmp_path: Path) -> None:
    with powerbridge(bed, tmp_path, bed.site_toml):
        over_the_lab(bed, browser, tmp_path)


def over_the_lab(bed: Bed, browser: Browser, tmp_path: Path) -> None:
    browser.network()
    browser.open(bed.lab.login_link())
    browser.until_pictures()
    milliseconds, size = browser.first_picture_milliseconds(), browser.transferred_bytes()
    print(f"first picture painted {milliseconds:.0f} ms after the page's start, {size} bytes until then")
    assert size <= 500_000
    assert milliseconds < 20_000  # docs/dashboard.md has what it takes; this is no clock
    browser.until(lambda: SAFE.fullmatch(browser.text("h1")), "SAFE")
    assert browser.text("#who") == "root, operator"

    scene(bed)
    browser.until(
        lambda: all_in_sight(browser), "start, event, dead sensor, alert and caps in a safe site", seconds=90
    )
    figure(browser, "desktop", tmp_path)
    browser.features(prefers_color_scheme="dark")
    browser.until_pictures(2)
    figure(browser, "dark", tmp_path)
    browser.features(prefers_color_scheme="light")
    browser.size(390, 844)
    browser.until(lambda: all_in_sight(browser), "the same on a phone", seconds=30)
    assert browser.ask("return document.documentElement.scrollWidth") <= 390
    figure(browser, "phone", tmp_path)
    browser.size(1440, 900)

    # More than all levers hold: what no job draws cannot be capped.
    bed.plant("base_load", watts=15_000)
    browser.until(lambda: AT_RISK.fullmatch(browser.text("h1")), "AT RISK", seconds=40)
    assert browser.ask("return document.getElementById('headline').dataset.standing") == "risk"
    browser.until_pictures(2)
    figure(browser, "risk", tmp_path)
    browser.until(lambda: "grid is" in browser.text("#alerts-list"), "the alert of the limit", seconds=40)
    assert "page" in browser.text("#alerts-list")
    bed.plant("base_load", watts=0)
    browser.until(lambda: SAFE.fullmatch(browser.text("h1")), "SAFE again", seconds=60)

    (event,) = bed.glance()["events"]
    browser.click(f"[aria-label='Cancel event {event['event_id']}']")
    browser.fill("dialog textarea", "the utility takes it back")
    browser.click("dialog input[name=sure]")
    browser.click("dialog button.deed")
    browser.until(lambda: "is cancelled" in browser.text("#told"), "the deed")
    # A lab that has only begun has nothing to tell of savings.
    assert not [text for text in browser.complaints() if "/api/v1/savings" not in text]
    bed.lab.restart("powerweb")  # what it had reckoned at its start is minutes old
    browser.open(f"http://127.0.0.1:{bed.lab.layout.ports['powerweb']}/")
    savings_are_told(bed, browser)
    browser.ask("document.getElementById('events').scrollIntoView()")
    figure(browser, "more", tmp_path)
    entries = bed.ledger(120.0)
    assert any(row["actor"] == "operator:root (web)" and "event" in row["kind"] for row in entries), entries[
        -5:
    ]


def test_a_user_sees_their_own_jobs_and_nobody_elses(bed: Bed, browser: Browser) -> None:
    browser.open(link(bed, "alice"))
    browser.until_pictures()
    assert browser.text("#who") == "alice, user"
    assert "bob" not in browser.ask("return document.body.textContent")
    assert not browser.ask("return document.getElementById('controls').checkVisibility()")


def test_the_recorded_picture_has_the_keys_of_a_real_one(bed: Bed) -> None:
    real, told = bed.ask("live"), recorded("live")
    assert not differing(real, told, ("circuits", "ess"))
    assert real["ess"][0]["next"].keys() == told["ess"][0]["next"].keys()
