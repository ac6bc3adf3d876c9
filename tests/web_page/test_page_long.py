"""A large site, and a page left open: what it holds is bounded."""

import copy

from tests.web_page.browser import Browser
from tests.web_page.site_server import Site


def large(site: Site, jobs: int, racks: int, nodes: int) -> None:
    """Grow the recorded picture to as much as the interface ever tells."""
    job, grid = site.picture["jobs"][0], site.picture["circuits"][0]
    rows = [grid]
    for rack in range(racks):
        rows.append(
            {
                **grid,
                "name": f"rack{rack}",
                "parent": grid["name"],
                "watts": 100.0 * rack,
                "limit_watts": 9000.0,
            }
        )
        rows += [
            {**grid, "name": f"r{rack}n{node}", "parent": f"rack{rack}", "watts": 90.0, "limit_watts": 900.0}
            for node in range(nodes)
        ]
    many = [
        {**job, "job_id": str(number), "gpu_watts": float(number), "user": "bob"} for number in range(jobs)
    ]
    site.picture = {**site.picture, "jobs": many, "circuits": rows, "circuits_left_off": 9500}


def test_a_large_site_is_shown_in_pages(browser: Browser, site: Site, address: str) -> None:
    large(site, jobs=2000, racks=100, nodes=5)
    site.tick_seconds = 1.0  # as on a site: each picture is 2 MB
    browser.open(address)
    browser.until_pictures()
    print(f"first picture of a large site after {browser.first_picture_milliseconds():.0f} ms")
    browser.until_pictures()
    assert browser.ask("return document.querySelectorAll('*').length") < 3000
    assert "1 to 14 of 2000" in browser.text("#jobs-pages")
    assert "9500 more are not listed" in browser.text("#circuits-pages")
    first = browser.text("#jobs tbody th")
    assert first.startswith("1999 ")  # most watts first
    browser.ask("document.querySelectorAll('#jobs-pages button')[1].click()")
    assert "15 to 28 of 2000" in browser.text("#jobs-pages")
    browser.click("#jobs thead th[data-column=watts] button")
    assert browser.text("#jobs tbody th").startswith("0 ")
    assert (
        browser.ask("return document.querySelector('#jobs th[data-column=watts]').getAttribute('aria-sort')")
        == "ascending"
    )
    browser.fill("#jobs-filter", "1234")
    browser.until(lambda: browser.text("#jobs tbody th").startswith("1234 "), "the job that was looked for")
    browser.fill("#circuits-filter", "r7n3")
    browser.until(
        lambda: browser.text("#circuits tbody").startswith("r7n3"), "the circuit that was looked for"
    )


def test_a_page_left_open_stays_as_small(page: Browser, site: Site) -> None:
    rows = copy.deepcopy(site.picture["jobs"][:1]) * 40
    entries = site.answers["ledger"]["entries"]

    def pictures(first: int, count: int) -> None:
        """Each with other jobs, sources, events and entries than the one before."""
        for number in range(first, first + count):
            jobs = [{**row, "job_id": str(1000 * number + place)} for place, row in enumerate(rows)]
            bad = [
                {
                    "source": f"s{number}",
                    "measures": "x",
                    "quality": "invalid",
                    "age_seconds": None,
                    "reason": "silent",
                }
            ]
            events = [{**event, "event_id": f"ev-{number}"} for event in site.picture["events"]]
            site.answers["ledger"]["entries"] = [
                {**entry, "sequence": entry["sequence"] + number} for entry in entries
            ]
            site.change(jobs=jobs, sources={**site.picture["sources"], "bad": bad}, events=events)
            page.until_pictures()

    pictures(1, 6)
    early = page.measures()
    pictures(7, 18)
    late = page.measures()
    assert late["Nodes"] <= early["Nodes"] * 1.2 + 200
    assert late["JSEventListeners"] <= early["JSEventListeners"] * 1.2 + 50
    assert late["JSHeapUsedSize"] <= early["JSHeapUsedSize"] * 1.5 + 3e6
