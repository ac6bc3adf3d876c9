"""Who sees little, uses no mouse, or wants it dark or still."""

from tests.web_page.browser import Browser
from tests.web_page.site_server import Site

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
    wanted += ("ledger-kind", "ledger-older", "control-pause", "control-release", "control-weights")
    assert not [name for name in wanted if name not in reached]


def test_the_chart_is_there_as_words_and_as_a_table(page: Browser) -> None:
    page.until(lambda: "Highest in the last hour" in page.text("#power-summary"), "the summary")
    page.click("#power-table summary")
    page.until(lambda: page.ask("return document.querySelectorAll('#power-rows tr').length") >= 5, "rows")
    assert "kW" in page.text("#power-rows")


def test_the_span_and_the_circuit_of_the_chart_are_chosen(page: Browser, site: Site) -> None:
    page.click("[data-range=day]")
    assert (
        page.ask("return document.querySelector('[data-range=day]').getAttribute('aria-pressed')") == "true"
    )
    page.until(lambda: any("seconds=86400" in asked[1] for asked in site.asked), "the history of a day")
    assert any("reach=far" in asked[1] for asked in site.asked)
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
        ["a", "50 % room", False], ["b", "80 % near", True], ["c", "95 % tight", True],
        ["d", "110 % above its limit", True], ["e", "no data", False],
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
