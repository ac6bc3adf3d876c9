"""What can be said of the page's files without a browser: no markup read, no foreign host, contrast, sums."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.web_page.site_server import STATIC

SCRIPTS = sorted(STATIC.glob("*.js"))
STYLES = sorted(STATIC.glob("*.css"))
UPLOT = STATIC / "vendor" / "uplot"
# What stands on what: text needs 4.5 to 1, what is drawn 3 to 1 (WCAG 2.1: 1.4.3, 1.4.11).
TEXT = [
    *((ink, ground) for ink in ("ink", "muted", "accent") for ground in ("ground", "panel", "raised")),
    *((f"{word}-ink", f"{word}-ground") for word in ("safe", "near", "risk", "stale")),
    *((f"{word}-ink", ground) for word in ("near", "risk", "stale") for ground in ("panel", "raised")),
    *(("ink", f"{word}-ground") for word in ("near", "risk")),
    ("on-accent", "accent"),
    ("plot-limit", "panel"),
]
DRAWN = [
    *((line, "panel") for line in ("plot-measured", "plot-limit", "plot-level", "plot-natural", "edge")),
    *((f"{word}-edge", "panel") for word in ("safe", "near", "risk", "stale")),
    *((fill, "track") for fill in ("near-edge", "risk-edge")),
    ("room-fill", "panel"),
]


def _colours() -> dict[str, tuple[str, str]]:
    text = (STATIC / "colours.css").read_text()
    found = re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\);", text)
    return {name: (light, dark) for name, light, dark in found}


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb``, by WCAG 2.1."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert _contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_lines_are_told_from_what_they_stand_on(theme: int) -> None:
    colours = _colours()
    weak = [
        f"{front} on {ground}: {ratio:.2f}"
        for least, pairs in ((4.5, TEXT), (3.0, DRAWN))
        for front, ground in pairs
        if (ratio := _contrast(colours[front][theme], colours[ground][theme])) < least
    ]
    assert not weak


def test_no_colour_stands_outside_the_table_of_colours() -> None:
    for style in STYLES:
        if style.name == "colours.css":
            continue
        found = re.findall(r"(?<![\w-])#[0-9a-fA-F]{3,8}\b(?!.*\{)", style.read_text())
        assert set(found) <= {"#000000a0", "#ffffff"}, style.name  # behind a dialog; paper


def test_every_colour_that_is_used_is_in_the_table() -> None:
    known = set(_colours())
    own = {"share", "fill", "depth"}
    for file in (*STYLES, *SCRIPTS):
        assert set(re.findall(r"var\(--([\w-]+)", file.read_text())) <= known | own, file.name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_nothing_is_read_as_markup_or_code(script: Path) -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    assert not re.search(rf"{markup}|eval\(|new Function", script.read_text())


def test_the_page_has_no_inline_script_or_style_and_names_no_host() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    for file in (STATIC / "index.html", *STYLES, *SCRIPTS):
        hosts = set(
            re.findall(
                r"(?:https?:)?//[\w.-]+\.\w+",
                re.sub(r"^\s*//.*$", "", file.read_text(), flags=re.MULTILINE),
            )
        )
        assert hosts <= {"http://www.w3.org"}, file.name  # the name of SVG, fetched by nobody


def test_every_module_is_asked_for_at_once() -> None:
    """One after the other, as each names the next, they would cost a round trip for each."""
    named = re.findall(r'<link rel="modulepreload" href="([\w.]+)">', (STATIC / "index.html").read_text())
    assert sorted([*named, "app.js"]) == [script.name for script in SCRIPTS]


def test_all_headings_of_tables_have_a_scope() -> None:
    for file in (STATIC / "index.html", *SCRIPTS):
        text = file.read_text()
        assert not re.findall(r"<th(?![^>]*\bscope=)[ >]", text), file.name
        assert not re.findall(r'make\("th", \{(?![^}]*\bscope:)', text), file.name


def test_the_bundled_library_is_the_one_that_was_published() -> None:
    rows = re.findall(r"^\| (\S+) \| ([0-9a-f]{64}) \|$", (UPLOT / "SOURCE.md").read_text(), re.MULTILINE)
    assert len(rows) == len(list(UPLOT.iterdir())) - 1
    for name, sum_ in rows:
        assert hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() == sum_
    assert "(v1.6.32)" in (UPLOT / "uPlot.iife.min.js").read_text()[:80]
    assert "MIT License" in (UPLOT / "LICENSE").read_text()


def test_files_are_short() -> None:
    for file in (*SCRIPTS, *STYLES, STATIC / "index.html"):
        lines = file.read_text().splitlines()
        assert len(lines) <= 400, file.name
        long = [number for number, line in enumerate(lines, 1) if len(line) > 110]
        assert not long, f"{file.name}: {long}"
