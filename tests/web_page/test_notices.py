"""What is wrong or due stands right below the heading, in sight, and leads to the panel that says more."""

from functools import partial
from typing import Any

import pytest

from tests.web_page.browser import Browser
from tests.web_page.site_server import Site

ALERT = {
    "id": "battery_not_following:battery",
    "rule": "battery_not_following",
    "severity": "page",
    "state": "firing",
    "summary": "battery gives 2 kW where 5 kW are set",
    "what_to_do": "look at the inverter",
    "since": "2026-11-28T16:20:00+00:00",
    "effects": ["the event may not be held"],
}
DEAD = {**ALERT, "id": "dead_source:GPU 5 of c1", "rule": "dead_source", "summary": "GPU 5 of c1 is lost"}
QUIET: dict[str, Any] = {"alerts": [], "events": [], "starts": [], "shortfalls": []}
ROWS = (
    "return [...document.querySelectorAll('.notice, .notices li')].filter(e => e.checkVisibility())"
    ".map(e => [e.dataset.kind, e.classList[1], e.querySelector('a').innerText,"
    " e.querySelector('span').textContent])"
)


def rows(page: Browser) -> dict[str, tuple[str, str, str]]:
    """By kind: (level, title, text)."""
    return {kind: (level, title, text) for kind, level, title, text in page.ask(ROWS)}


def show(page: Browser, site: Site, **parts: Any) -> dict[str, tuple[str, str, str]]:
    site.change(**parts)
    page.until_pictures(2)
    return rows(page)


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_alert_dead_source_event_and_start_are_in_sight_without_scrolling(
    page: Browser, site: Site, width: int, height: int
) -> None:
    page.size(width, height)
    found = show(page, site, alerts=[ALERT, DEAD])
    assert found == {
        "alerts": ("risk", "2 alerts", "battery gives 2 kW where 5 kW are set; 1 more"),
        "sources": ("near", "1 dead source", "GPU 5 of c1: GPU is lost; 1 doubtful"),
        "events": ("calm", "Grid event running", "grid at most 14.5 kW, 6 min left"),
        "starts": ("near", "Massive start in 113 s", "llm-70b (job 3), +15.7 kW on grid, 260 W left now"),
    }
    lowest = page.ask("return document.getElementById('notices').getBoundingClientRect().bottom")
    assert lowest < height / 2
    # A notice has an icon of its own beside its words, so that colour is never all there is.
    icons = page.ask("return [...document.querySelectorAll('.notices use')].map(e => e.getAttribute('href'))")
    assert len(set(icons)) == len(icons) == 5


def test_where_nothing_is_wrong_nothing_is_there(page: Browser, site: Site) -> None:
    good = {**site.picture["sources"], "questionable": 0, "invalid": 0, "bad": []}
    assert show(page, site, sources=good, **QUIET) == {}
    assert not page.ask("return document.getElementById('notices').checkVisibility()")
    told = show(page, site, levers={"exhausted": True, "reason": "every cap is at its floor"})
    assert told == {"levers": ("risk", "Levers exhausted", "every cap is at its floor")}


def test_the_gravest_is_named_and_what_cannot_be_held_is_said(page: Browser, site: Site) -> None:
    event = {**site.picture["events"][0], "starts_in_seconds": 600.0, "ends_in_seconds": 4200.0}
    later = {**event, "event_id": "ev-2", "starts_in_seconds": 9000.0, "ends_in_seconds": 9900.0}
    short = {"circuit": "grid", "watts": 2100.0, "reason": "no lever left", "event_id": event["event_id"]}
    silenced = {**ALERT, "state": "silenced"}
    doubtful = {**site.picture["sources"], "invalid": 0, "bad": site.picture["sources"]["bad"][1:]}
    standing = {**site.picture["standing"], "margin_watts": 20_000.0}
    found = show(
        page, site, alerts=[silenced], events=[later, event], shortfalls=[short], sources=doubtful,
        standing=standing,
    )  # fmt: skip
    assert "alerts" not in found
    level, title, text = found["events"]
    assert (level, title) == ("risk", "Grid event in 10 min")
    assert text == "grid at most 14.5 kW for 60 min; 2.1 kW too much, as things stand; 1 more"
    assert found["sources"][1:] == ("1 doubtful source", "node c1, 8 GPUs: 1 of 8 GPUs do not answer")
    assert found["starts"] == ("calm", "Massive start in 113 s", "llm-70b (job 3), +15.7 kW on grid")


def test_a_notice_leads_to_its_panel_by_key_too(page: Browser, site: Site) -> None:
    show(page, site, alerts=[ALERT])
    for kind, panel in {"sources": "sources", "alerts": "alerts", "events": "events"}.items():
        link = page.driver.find_element("css selector", f".notices [data-kind={kind}] a")
        link.send_keys("\ue007")
        page.until(partial(page.ask, f"return document.activeElement.id === '{panel}'"), f"the panel {panel}")
        top = page.ask(f"return document.getElementById('{panel}').getBoundingClientRect().top")
        assert -1 <= top < 900


def test_what_is_new_is_told_to_screen_readers_once(page: Browser, site: Site) -> None:
    told = "return document.getElementById('notices-speaker').textContent"
    assert "GPU 5 of c1" in page.ask(told)
    assert page.ask("return document.getElementById('notices-speaker').getAttribute('role')") == "status"
    show(page, site, alerts=[ALERT])
    assert page.ask(told) == "1 alert: battery gives 2 kW where 5 kW are set."
    event = {**site.picture["events"][0], "ends_in_seconds": 100.0}
    assert show(page, site, events=[event])["events"][2].endswith("100 s left")
    assert page.ask(told) == "1 alert: battery gives 2 kW where 5 kW are set."


def test_an_alert_says_since_when_what_to_do_and_what_follows(page: Browser, site: Site) -> None:
    show(page, site, alerts=[ALERT])
    text = page.text("#alerts-list")
    assert "page" in text and "battery gives 2 kW" in text and "since" in text
    assert "look at the inverter; the event may not be held" in text
    site.picture.pop("alerts")  # who may not see them is not told that there are none
    page.until(lambda: not page.ask("return document.getElementById('alerts').checkVisibility()"), "no panel")


def test_savings_say_against_what_by_which_method_and_how_sure(page: Browser) -> None:
    page.until(lambda: "660.81 EUR (6.7 %)" in page.text("#savings-facts"), "the savings")
    text = page.text("#savings-facts")
    assert "712.40 EUR at most, if held jobs would have drawn all the while" in text
    assert "9214.40 EUR instead of 9875.21 EUR" in text and "29.6 kW instead of 33.9 kW" in text
    assert "measured: 99.9 % of the month so far was metered" in text
    assert "2026-11, against the same month without caps and batteries" in page.text("#savings-month")
    assert "replay of the metered load" in page.text("#savings-note")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"estimate": True, "metered_ratio": 0.62, "unpriced_hours": 12.0, "unknown_months": ["2026-10"]},
            "62.0 % of the month so far was metered, 12 h 00 min have no price, peaks of 2026-10 are unknown",
        ),
        ({"estimate": True}, "an estimate: "),
        ({"saved": -12.5, "saved_most": -12.5, "bill_without": 250.0}, "Cost more\n12.50 EUR (5.0 %)"),
        ({"saved": -12.5, "saved_most": 3.0, "bill_without": 250.0}, "(5.0 %); 3.00 EUR saved at most, if"),
        ({"saved": -12.5, "saved_most": -3.0, "bill_without": 250.0}, "(5.0 %); 3.00 EUR at least, if held"),
        ({"co2_kg_saved": -0.012}, "0.0 kg less"),
        ({"saved": None, "bill": None, "bill_without": None}, "unknown: no tariff is set"),
    ],
)
def test_savings_that_are_none_or_not_sure_say_so(
    browser: Browser, site: Site, address: str, answer: dict[str, Any], said: str
) -> None:
    site.answers["savings"] = {**site.answers["savings"], **answer}
    browser.open(address)
    browser.until(lambda: said in browser.text("#savings-facts"), said)


def test_a_month_that_is_not_known_says_why(browser: Browser, site: Site, address: str) -> None:
    site.refusals["savings"] = (
        503,
        {"error": "this month is not known: nothing was metered", "problems": []},
    )
    browser.open(address)
    browser.until(lambda: "nothing was metered" in browser.text("#savings-note"), "the reason")
