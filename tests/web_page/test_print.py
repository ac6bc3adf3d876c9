"""Reports on paper: the month and a statement printed to PDF by Chromium, on A4 and on Letter."""

import base64
import re
from pathlib import Path

import pytest

from tests.cli.test_slurm_power import run
from tests.cli.test_statements import state as plant_state  # noqa: F401  # a fixture
from tests.report.conftest import weeks, whole_state  # noqa: F401  # fixtures
from tests.report.test_month import TARIFF
from tests.web_page.browser import Browser

MM_PER_INCH, PIXELS_PER_INCH = 25.4, 96.0
# Millimetres; the margins of the style are 14 above, 16 below, 12 at each side.
PAPERS = {"A4": (210.0, 297.0), "Letter": (215.9, 279.4)}
POINTS = {"A4": (595, 842), "Letter": (612, 792)}

# Per element: what it is, and its box. What is wider than the paper is cut by a printer.
BOXES = """
return [...document.querySelectorAll("figure svg, table, h1, .tiles dd, .verdict li")].map((element) => {
  const box = element.getBoundingClientRect();
  return [element.tagName, box.left, box.right, box.height, element.textContent.slice(0, 60)];
});
"""
# Words that are broken in themselves because their column is too narrow: the cell is higher than its text is
# long, though no word in it is.
BROKEN = """
return [...document.querySelectorAll("td:not(.long), th")].filter((cell) => {
  const words = cell.textContent.split(/\\s+/).filter(Boolean);
  const range = document.createRange();
  const text = cell.firstChild;
  if (!text) { return false; }
  let at = 0;
  return words.some((word) => {
    at = text.data.indexOf(word, at);
    range.setStart(text, at); range.setEnd(text, at + word.length);
    at += word.length;
    const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
    return lines.size > 1 && !word.includes("-") && !word.includes("/");
  });
}).map((cell) => cell.textContent);
"""
STYLES = """
const style = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
return {figure: style("figure", "breakInside"), row: style("tbody tr", "breakInside"),
        head: style("thead", "display"), page: style("body", "backgroundColor"), ink: style("body", "color"),
        heading: style("h2", "breakAfter"), scroll: style(".wide", "overflowX")};
"""


@pytest.fixture
def month(whole_state: Path, tmp_path: Path) -> Path:  # noqa: F811  # pytest's way to share a fixture
    (tmp_path / "tariff.toml").write_text(TARIFF.format(minutes=15))
    page = tmp_path / "month.html"
    words = ("--tariff", tmp_path / "tariff.toml", "--zone", "Europe/Berlin", "--out", page)
    result = run("report", "month", "2025-11", "--state", whole_state, *words)
    assert result.exit_code == 0, result.output
    return page


@pytest.fixture
def statement(plant_state: Path, tmp_path: Path) -> Path:  # noqa: F811  # pytest's way to share a fixture
    page = tmp_path / "energy.html"
    words = ("--month", "2026-03", "--by", "job", "--out", page)
    result = run("report", "energy", "--state", plant_state, *words)
    assert result.exit_code == 0, result.output
    return page


def printed(browser: Browser, paper: str) -> bytes:
    """The page as the browser prints it."""
    width, height = (length / MM_PER_INCH for length in PAPERS[paper])
    asked = {
        "paperWidth": width,
        "paperHeight": height,
        "printBackground": True,
        "displayHeaderFooter": False,
    }
    answer = browser.driver.execute_cdp_cmd("Page.printToPDF", asked)
    return base64.b64decode(answer["data"])


def on_paper(browser: Browser, paper: str) -> float:
    """Lay the page out as on paper: as wide as between the margins. Returns the height between them, too."""
    width, height = PAPERS[paper]
    pixels = PIXELS_PER_INCH / MM_PER_INCH
    browser.size(int((width - 24.0) * pixels), 900)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    return (height - 30.0) * pixels


@pytest.mark.parametrize("paper", PAPERS)
def test_the_month_on_paper(browser: Browser, month: Path, paper: str) -> None:
    """Four pages, of the paper's own size; no figure or table is cut, and nothing is broken in a word."""
    browser.open(month.as_uri())
    pdf = printed(browser, paper)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 4
    (box,) = set(re.findall(rb"/MediaBox\s*\[0 0 ([\d.]+) ([\d.]+)\]", pdf))
    assert [round(float(side)) for side in box] == pytest.approx(POINTS[paper], abs=1)
    try:
        most = on_paper(browser, paper)
        width = browser.ask("return document.documentElement.clientWidth")
        boxes = browser.ask(BOXES)
        assert sum(name == "svg" for name, *_ in boxes) == 2
        for name, left, right, height, text in boxes:
            assert left >= -0.5 and right <= width + 0.5, (name, left, right, width, text)
            assert name != "svg" or 50.0 < height < most, (name, height, most)
        assert browser.ask(BROKEN) == []
        assert browser.ask(STYLES) == {
            "figure": "avoid",
            "row": "avoid",
            "head": "table-header-group",
            "page": "rgba(0, 0, 0, 0)",
            "ink": "rgb(0, 0, 0)",
            "heading": "avoid",
            "scroll": "visible",
        }
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("paper", PAPERS)
def test_a_statement_with_hostile_and_long_names_fits(browser: Browser, statement: Path, paper: str) -> None:
    """Twelve columns, and names longer than a column: the widest tables there are."""
    browser.open(statement.as_uri())
    try:
        on_paper(browser, paper)
        width = browser.ask("return document.documentElement.clientWidth")
        for name, left, right, _, text in browser.ask(BOXES):
            assert left >= -0.5 and right <= width + 0.5, (name, left, right, width, text)
        assert browser.ask(BROKEN) == []
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_dark_screen_prints_black_on_white(browser: Browser, month: Path) -> None:
    browser.features(prefers_color_scheme="dark")
    browser.open(month.as_uri())
    assert browser.ask("return getComputedStyle(document.body).color") == "rgb(230, 233, 238)"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    try:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
        for selector in ("body", "td", "section"):
            found = browser.ask(
                "return getComputedStyle(document.querySelector(arguments[0])).color", selector
            )
            assert found == "rgb(0, 0, 0)", selector
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
