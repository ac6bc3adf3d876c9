"""The report's figures and its page: verdicts, escapes, nothing from outside."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from slurm_power.report.data import Series, judge
from slurm_power.report.frame.figures import power_figure
from slurm_power.report.frame.html import render, write_report
from tests.report.examples import LIMIT_WATTS, job, report, series


def with_import(watts: list[float | None], limit_watts: float = 100.0) -> Series:
    count = len(watts)
    return Series(
        seconds=tuple(float(second) for second in range(count)),
        import_watts=tuple(watts),
        limit_watts=(limit_watts,) * count,
        ess_discharge_watts=(None,) * count,
        withheld_watts=(None,) * count,
        soc_ratio=(None,) * count,
    )


@pytest.mark.parametrize(
    ("watts", "held", "worst_watts", "longest_seconds"),
    [
        ([90.0] * 10, True, 0.0, 0.0),
        ([100.0] * 10, True, 0.0, 0.0),
        ([90.0, 130.0, 110.0, 90.0], True, 30.0, 2.0),
        ([90.0, *[101.0] * 5, 90.0], True, 1.0, 5.0),
        ([90.0, *[101.0] * 6, 90.0], False, 1.0, 6.0),
        ([90.0, *[101.0] * 3, 90.0, *[101.0] * 3], True, 1.0, 3.0),
        ([90.0, 101.0, None, None, None, None, 101.0, 90.0], False, 1.0, 6.0),
        ([90.0, *[None] * 5, 90.0], True, 0.0, 0.0),
        ([90.0, *[None] * 6, 90.0], False, 0.0, 0.0),
        ([None], False, 0.0, 0.0),
        ([], False, 0.0, 0.0),
    ],
)
def test_verdict(watts: list[float | None], held: bool, worst_watts: float, longest_seconds: float) -> None:
    verdict = judge(with_import(watts), settle_seconds=5.0)
    assert verdict.limit_held is held
    assert verdict.worst_excursion_watts == worst_watts
    assert verdict.longest_excursion_seconds == longest_seconds


def test_no_limit_cannot_be_broken() -> None:
    rows = replace(with_import([1e9, 1e9]), limit_watts=(None, None))
    assert judge(rows).limit_held


def test_sums_of_the_example() -> None:
    data = report()
    assert data.peak_watts == 22_600.0
    assert data.unmitigated_peak_watts == 24_000.0
    assert data.discharged_joules == pytest.approx(1_400 + 2_800 + 48 * 4_200)
    assert data.withheld_joules == pytest.approx(70 * 4_200)
    assert data.verdict.good
    assert data.verdict.worst_excursion_watts == 22_600.0 - LIMIT_WATTS


def test_charging_lowers_what_would_have_been_drawn() -> None:
    rows = replace(with_import([100.0]), ess_discharge_watts=(-30.0,))
    assert rows.unmitigated_watts == (70.0,)
    assert report(series=rows).discharged_joules == 0.0


class Page(HTMLParser):
    """Collects what a browser would see and fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "srcset", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_says_what_happened() -> None:
    page = Page(render(report()))
    for words in (
        "The limit held",
        "All jobs finished",
        "every cap, hold and setpoint is back",
        "at most 2600 W above it, for 2 s on end (5 s are allowed)",
        "22.6 kW",
        "6 % lower",
        "training, flex2",
        "520 W",
        "42 s",
        "the battery is for short peaks; flex2 allows 25 %",
        "utility",
    ):
        assert words in page.text, words
    assert page.tags.count("svg") == 2
    assert page.tags.count("table") == 3


def test_page_says_what_went_wrong() -> None:
    verdict = judge(
        with_import([200.0] * 9), unfinished=("job 18 is running",), unrestored=("cap on job:17",)
    )
    page = Page(render(report(verdict=verdict)))
    assert not verdict.good
    for words in (
        "The limit did not hold",
        "100 W above it, for 9 s",
        "Not all jobs finished",
        "job 18 is running",
    ):
        assert words in page.text
    assert "Something still stands changed" in page.text
    assert "cap on job:17" in page.text


def test_page_needs_nothing_from_outside() -> None:
    text = render(report())
    page = Page(text)
    assert "://" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert all(link.startswith("#") for link in page.links)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)


def test_what_users_name_is_escaped() -> None:
    bad = "<script>alert('x')</script>&\"$\\frac$"
    data = report(
        title=bad, circuit=bad, jobs=(job(bad, name=bad, user=bad, state=bad, workload=bad, flex=bad),)
    )
    decision = replace(data.decisions[0], kind=bad, subject=bad, reason=bad, actor=bad)
    event = replace(data.events[0], reason=bad, circuit=bad)
    verdict = replace(data.verdict, unfinished=(bad,), unrestored=(bad,))
    text = render(replace(data, decisions=(decision,), events=(event,), verdict=verdict))
    assert "<script" not in text
    assert Page(text).text.count("<script>alert('x')</script>") >= 10


def test_same_data_same_page() -> None:
    assert render(report()) == render(report())


def test_empty_and_unknown_values_still_make_a_page() -> None:
    rows = with_import([])
    empty = report(series=rows, jobs=(), decisions=(), events=(), verdict=judge(rows))
    assert "The limit did not hold" in render(empty)
    unknown = job("1", energy_joules=None, mean_watts=None, peak_watts=None)
    rows = replace(series(), import_watts=(None,) * 240)
    assert "–" in Page(render(report(series=rows, jobs=(unknown,)))).text  # noqa: RUF001 - the dash for unknown


def test_long_series_are_thinned_and_keep_their_peak(tmp_path: Path) -> None:
    count = 86_400
    watts: list[float | None] = [50.0] * count
    watts[40_001] = 99.0
    file = tmp_path / "report.html"
    write_report(report(series=with_import(watts)), file)
    assert file.stat().st_size < 400_000
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    flat = with_import([50.0] * count)
    assert power_figure(report(series=with_import(watts))) != power_figure(report(series=flat))
