"""Who sees little, uses no mouse, or wants it dark or still."""

import pytest

from tests.web_page.browser import Browser
from tests.web_page.site_server import Site

# Text below its contrast (WCAG 2.1, 1.4.3) as it is drawn: what it stands on is the next ground behind it.
FAINT = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (part) => (part <= 10.31475 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
function ground(element) {
  for (let one = element; one; one = one.parentElement) {
    const found = parts(getComputedStyle(one).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
    if (found[3] > 0) throw new Error(`half of a ground: ${one.outerHTML.slice(0, 80)}`);
  }
  return [255, 255, 255];
}
const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
const drawn = (element) => own(element) && element.checkVisibility() && !element.disabled
  && !element.closest('.unseen, noscript');
return [...document.querySelectorAll('body *')].filter(drawn).map((element) => {
  const style = getComputedStyle(element);
  const [one, other] = [light(parts(style.color)), light(ground(element))].toSorted((a, b) => a - b);
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  return [(other + 0.05) / (one + 0.05), least, element.outerHTML.slice(0, 120)];
});
"""
TAB, ENTER = "\ue004", "\ue007"


def test_every_control_has_a_name_and_every_picture_a_text(page: Browser) -> None:
    nameless = page.ask(
        "return [...document.querySelectorAll('button, select, input, textarea, summary')].filter(e =>"
        " !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert not nameless
    assert page.ask("return document.querySelector('#power-chart').getAttribute('role')") == "img"
    assert page.ask("return document.querySelector('#power-chart').getAttribute('aria-label')")
    assert page.ask("return document.querySelectorAll('h1').length") == 1
    assert page.ask("return document.documentElement.lang") == "en"
    unscoped = page.ask("return [...document.querySelectorAll('th')].filter(e => !e.scope).length")
    assert unscoped == 0
    lost = page.ask(
        "return [...document.querySelectorAll('[aria-labelledby]')]"
        ".map(e => e.getAttribute('aria-labelledby'))"
        ".filter(id => !document.getElementById(id))"
    )
    assert not lost


def test_the_keyboard_reaches_everything_and_its_place_is_seen(page: Browser) -> None:
    reached = []
    for _ in range(120):
        page.driver.switch_to.active_element.send_keys(TAB)
        name, outline = page.ask(
            "const e = document.activeElement; const s = getComputedStyle(e);"
            "return [e.id || e.dataset.range || e.dataset.column || e.className || e.tagName,"
            " s.outlineStyle + s.outlineWidth]"
        )
        if name == "BODY":
            break
        reached.append(name)
        assert outline == "solid2px", name
    wanted = (
        "theme",
        "power-circuit",
        "hour",
        "day",
        "week",
        "circuits-filter",
        "jobs-filter",
        "watts",
        "events-create",
    )
    more = ("ledger-kind", "ledger-older", "control-pause", "control-release", "control-weights")
    assert not [name for name in (*wanted, *more) if name not in reached]


def test_the_chart_is_there_as_words_and_as_a_table(page: Browser) -> None:
    page.until(lambda: "Highest in the last hour" in page.text("#power-summary"), "the summary")
    described = "return document.getElementById('power-chart').getAttribute('aria-describedby')"
    assert page.ask(described) == "power-summary"
    page.click("#power-table summary")
    page.until(lambda: page.ask("return document.querySelectorAll('#power-rows tr').length") >= 5, "rows")
    assert "kW" in page.text("#power-rows")


def test_the_ledger_has_pages_and_a_filter(page: Browser, site: Site) -> None:
    entries = site.answers["ledger"]["entries"]
    page.until(lambda: entries[-1]["reason"] in page.text("#ledger-list"), "the newest entry")
    assert page.text("#ledger-list").index(entries[-1]["reason"]) < 200
    newest = page.text("#ledger-list")
    page.click("#ledger-older")
    page.until(lambda: page.text("#ledger-list") != newest, "older entries")
    assert any(f"before={entries[-12]['sequence']}" in asked[1] for asked in site.asked)
    page.click("#ledger-newest")
    page.until(lambda: page.text("#ledger-list") == newest, "the newest page again")
    page.fill("#ledger-job", "1")
    page.until(lambda: any("job=1&" in asked[1] for asked in site.asked), "the question")
    page.until(lambda: "job:2" not in page.text("#ledger-list"), "entries of that job alone")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("safe", [True, False])
def test_every_text_that_is_drawn_can_be_read(page: Browser, site: Site, scheme: str, safe: bool) -> None:
    page.features(prefers_color_scheme=scheme)
    grid = site.picture["circuits"][0]
    shares = {"a": 0.5, "b": 0.8, "c": 0.95, "d": 1.1}
    rows = [
        {**grid, "name": name, "watts": 1e4 * share, "limit_watts": 1e4} for name, share in shares.items()
    ]
    standing = {**site.picture["standing"], "safe": safe, "word": "SAFE" if safe else "AT RISK"}
    alert = {"id": "x", "rule": "x", "severity": "page", "state": "firing", "summary": "x", "what_to_do": "y"}
    site.change(circuits=rows, standing=standing, alerts=[alert], mode="control" if safe else "shadow")
    page.until_pictures(2)
    page.click("#control-release")  # the dialog as well
    found = page.ask(FAINT)
    assert len(found) > 150
    assert not [row for row in found if row[0] < row[1]]


def test_what_is_pressed_is_large_enough(page: Browser) -> None:
    """24 by 24 pixels (WCAG 2.2, 2.5.8); a summary stands in a line of its own."""
    small = page.ask(
        "return [...document.querySelectorAll('button, select, input')].filter(e => e.checkVisibility())"
        ".map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 90)])"
        ".filter(([box]) => box.height < 24 || box.width < 24).map(([, text]) => text)"
    )
    assert not small


def test_the_span_and_the_circuit_of_the_chart_are_chosen(page: Browser, site: Site) -> None:
    page.click("[data-range=day]")
    assert (
        page.ask("return document.querySelector('[data-range=day]').getAttribute('aria-pressed')") == "true"
    )
    page.until(lambda: any("seconds=86400" in asked[1] for asked in site.asked), "the history of a day")
    page.until(lambda: any("reach=far" in asked[1] for asked in site.asked), "the forecast of a day")
    page.click("#circuits tbody tr:nth-child(2) th button.plain")
    name = page.ask("return document.getElementById('power-circuit').value")
    assert name != site.picture["standing"]["circuit"]
    page.until(lambda: any(f"circuit={name}" in asked[1] for asked in site.asked), "that circuit's history")


def test_it_is_dark_where_the_system_is_or_the_reader_wants_it(page: Browser) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.ask(ground)
    page.features(prefers_color_scheme="dark")
    page.until(lambda: page.ask(ground) != light, "a dark page")
    dark = page.ask(ground)
    page.features(prefers_color_scheme="light")
    page.until(lambda: page.ask(ground) == light, "a light page")
    page.click("#theme")
    assert (page.ask(ground), page.text("#theme")) == (dark, "Theme: dark")
    page.click("#theme")
    assert (page.ask(ground), page.text("#theme")) == (light, "Theme: light")
    page.click("#theme")
    assert page.text("#theme") == "Theme: system"


def test_nothing_moves_where_that_is_not_wanted(page: Browser) -> None:
    page.features(prefers_reduced_motion="reduce")
    moving = page.ask(
        "return [...document.querySelectorAll('*')].filter(e =>"
        " parseFloat(getComputedStyle(e).transitionDuration) > 0"
        " || getComputedStyle(e).animationName !== 'none').length"
    )
    assert moving == 0


def test_how_close_a_circuit_is_has_a_word_and_a_pattern(page: Browser, site: Site) -> None:
    grid = site.picture["circuits"][0]
    shares = {"a": 0.5, "b": 0.8, "c": 0.95, "d": 1.1}
    rows = [
        {**grid, "name": name, "parent": None, "watts": 1000.0 * share, "limit_watts": 1000.0}
        for name, share in shares.items()
    ]
    site.change(circuits=[*rows, {**grid, "name": "e", "parent": None, "watts": None, "quality": "invalid"}])
    page.until(lambda: "no data" in page.text("#circuits tbody"), "five circuits")
    found = page.ask(
        "return [...document.querySelectorAll('#circuits tbody tr')]"
        ".map(e => [e.querySelector('.plain').textContent,"
        " e.lastElementChild.textContent,"
        " getComputedStyle(e.querySelector('.gauge > span')).backgroundImage !== 'none'])"
    )
    assert sorted(found) == [
        ["a", "50 %, room", False], ["b", "80 %, near", True], ["c", "95 %, tight", True],
        ["d", "110 %, above", True], ["e", "no data", False],
    ]  # fmt: skip


def test_a_print_is_light_and_leaves_the_buttons_out(page: Browser) -> None:
    page.features(prefers_color_scheme="dark")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.ask("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        seen = page.ask(
            "return [...document.querySelectorAll('button')].filter(e => e.checkVisibility()"
            " && !e.matches('.plain, .fold, thead button')).length"
        )
        assert seen == 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
