"""The plugin's parsers under sanitizers: every form a user may write, and whatever else may come."""

import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from slurm_power.cli import option_forms
from tests.option_forms_cases import CASES, NOW, TIME_ZONE
from tests.spank.building import PROJECT, build_driver

OPTIONS = tuple(option_forms.OPTIONS)  # in the order of the enumeration there
# What the parsers look for: a random text of these comes far into them.
LETTERS = "0123456789" * 2 + "@:-+.TsmhdWwkK now" + "hours" + "flex" + "\t\x01é" + "abz0/,_"


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [PROJECT / "tests/spank/parsers.c"]
    sources += [PROJECT / f"spank/{name}.c" for name in ("option_forms", "tier_forms", "node_answer")]
    return build_driver(tmp_path_factory.mktemp("parsers") / "parsers", *sources)


def run(parsers: Path, lines: Sequence[str], **environ: str) -> list[str]:
    done = subprocess.run(
        [str(parsers)],
        input="\n".join(lines) + "\n",
        env={"TZ": TIME_ZONE, **environ},
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    return answers


def form(option: str, text: str, now: int = NOW) -> str:
    return f"form {OPTIONS.index(option)} {now} {text.encode().hex()}"


def normal(answer: str) -> str | None:
    return None if answer.startswith("- ") else answer


def test_every_form_has_its_normal_form(parsers: Path) -> None:
    answers = run(parsers, [form(option, text) for option, text, _ in CASES])
    wrong = [(case, answer) for case, answer in zip(CASES, answers, strict=True) if normal(answer) != case[2]]
    assert not wrong


def test_psbatch_takes_the_same_forms() -> None:
    wrong = [case for case in CASES if psbatch_normal(*case[:2]) != case[2]]
    assert not wrong


def test_a_node_takes_normal_forms_alone_of_what_a_clock_decides(parsers: Path) -> None:
    """There the text was judged before; by now it would mean another time, and a moment may have passed."""
    texts = ["now+60", "18:30", "2026-12-31", f"@{NOW - 1}", f"@{NOW + 60}"]
    answers = [normal(answer) for answer in run(parsers, [form("finish-by", text, 0) for text in texts])]
    assert answers == [None, None, None, f"@{NOW - 1}", f"@{NOW + 60}"]
    assert run(parsers, [form("max-hold", "30", 0), form("power-cap", "0.4kW", 0)]) == ["1800s", "400"]


@pytest.mark.parametrize(
    ("option", "text", "refusal"),
    [
        ("workload", "x", "is not one of training, inference, generation"),
        ("flex", "x", "is not one of flex0, flex1, flex2, flex3"),
        ("max-hold", "x", "is no time: minutes (30), MM:SS"),
        ("max-hold", "31d", "is more than 30 days"),
        ("finish-by", "x", "is no moment: YYYY-MM-DD"),
        ("finish-by", "@1", "is in the past"),
        ("finish-by", "now+400days", "is more than 366 days ahead"),
        ("power-cap", "x", "is no power: watts per GPU: 400, 400W or 0.4kW"),
        ("power-cap", "0", "is not between 1 W and 100 kW"),
        ("power-cap", "4" * 81, "is longer than 80 characters"),
        ("tier", "digits", "is no tier: FAMILY/TIER, each of a to z"),
        ("tiers-ok", "digits/int8", "is no list of tiers: names of tiers with commas"),
        ("tiers-ok", "any,int8", "has other names beside any or none"),
        ("tiers-ok", "a,b,c,d,e,f,g,h,i", "has more than 8 names"),
        ("tiers-ok", "a" * 161, "is longer than 160 characters"),
        ("min-quality", "high", "is no quality: a number as 0.95"),
    ],
)
def test_a_refusal_says_why(parsers: Path, option: str, text: str, refusal: str) -> None:
    assert run(parsers, [form(option, text)])[0].startswith(f"- {refusal}")


def spoiled_forms(source: random.Random) -> Iterator[tuple[str, str]]:
    """Texts near the forms: made of their letters, or a good one with a letter added, lost or changed."""
    good = [(option, text) for option, text, _ in CASES if text]
    while True:
        option, text = source.choice(good)
        if source.random() < 0.3:
            text = "".join(source.choices(LETTERS, k=source.randrange(20)))
        for _ in range(source.randrange(3)):
            at = source.randrange(len(text) + 1)
            text = text[:at] + source.choice(["", source.choice(LETTERS)]) + text[at + source.randrange(2) :]
        yield option, text


def test_thousands_of_spoiled_forms(parsers: Path) -> None:
    """Each is refused, or has a normal form that stands for itself; psbatch's parsers say the same."""
    texts = spoiled_forms(random.Random(5))
    cases = [next(texts) for _ in range(20_000)]
    answers = [normal(answer) for answer in run(parsers, [form(*case) for case in cases])]
    meant = [(case[0], answer) for case, answer in zip(cases, answers, strict=True) if answer is not None]
    assert len(meant) > 2000
    again = run(parsers, [form(*case) for case in meant])
    assert again == [answer for _, answer in meant]
    theirs = [psbatch_normal(*case) for case in cases]
    differing = [row for row in zip(cases, answers, theirs, strict=True) if row[1] != row[2]]
    assert not differing


def psbatch_normal(option: str, text: str) -> str | None:
    before = os.environ.get("TZ")
    os.environ["TZ"] = TIME_ZONE
    time.tzset()
    try:
        known = option_forms.OPTIONS[option]
        found: str = option_forms.finish_by(text, NOW) if option == "finish-by" else known.normal(text)
        return found
    except option_forms.NotMeantError:
        return None
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def answer(text: bytes) -> str:
    return f"answer {text.hex()}"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (b".\n", "0"),
        (b"SLURM_POWER_A=1\n.\n", "1 SLURM_POWER_A=1"),
        (b"SLURM_POWER_A=\n.\n", "1 SLURM_POWER_A="),
        (b"SLURM_POWER_A=b=c d\nSLURM_POWER_B_C=2\n.\n", "2 SLURM_POWER_A=b=c d SLURM_POWER_B_C=2"),
        (b"SLURM_POWER_" + b"A" * 40 + b"=1\n.\n", "1 SLURM_POWER_" + "A" * 40 + "=1"),
        (b"SLURM_POWER_A=" + b"x" * 256 + b"\n.\n", "1 SLURM_POWER_A=" + "x" * 256),
        (b"SLURM_POWER_A=1\n" * 16 + b".\n", "16" + " SLURM_POWER_A=1" * 16),
        # From here on nothing of it is good.
        (b"", "-1"),
        (b".", "-1"),
        (b"SLURM_POWER_A=1\n", "-1"),
        (b"SLURM_POWER_A=1", "-1"),
        (b"SLURM_POWER_A=1\n.\nSLURM_POWER_B=1\n", "-1"),
        (b"SLURM_POWER_A=1\n.\n\n", "-1"),
        (b"SLURM_POWER_A=1\n" * 17 + b".\n", "-1"),
        (b"SLURM_POWER_" + b"A" * 41 + b"=1\n.\n", "-1"),
        (b"SLURM_POWER_A=" + b"x" * 257 + b"\n.\n", "-1"),
        *[
            (name + b"=1\n.\n", "-1")
            for name in (
                *(b"LD_PRELOAD", b"PATH", b"SLURM_POWER", b"SLURM_POWER_", b"slurm_power_a"),
                *(b"SLURM_POWER_a", b"XSLURM_POWER_A"),
                *(b"SLURM_POWER_A1", b"SLURM_POWER_A B", b" SLURM_POWER_A", b"SLURM_POWER_\x00"),
            )
        ],
        *[
            (b"SLURM_POWER_A=" + value + b"\n.\n", "-1")
            for value in (b"\x00", b"\x1b[0m", b"\x7f", b"\xc3\xa4", b"a\r")
        ],
        (b"SLURM_POWER_A\n.\n", "-1"),
        (b"\n.\n", "-1"),
        (b'{"ok":false,"error":"unknown op"}\n', "-1"),
    ],
)  # fmt: skip
def test_only_a_whole_and_good_answer_is_taken(parsers: Path, text: bytes, taken: str) -> None:
    assert run(parsers, [answer(text)]) == [taken]


def test_thousands_of_spoiled_answers(parsers: Path) -> None:
    source = random.Random(6)
    good = b"SLURM_POWER_SOCKET=/run/powerd.sock\nSLURM_POWER_CAP_WATTS=400\nSLURM_POWER_RESTART=0\n.\n"
    texts = []
    for _ in range(5000):
        text = bytearray(good if source.random() < 0.9 else source.randbytes(source.randrange(200)))
        for _ in range(source.randrange(1, 4)):
            at = source.randrange(len(text) + 1)
            text[at : at + source.randrange(3)] = source.choice([b"", b"\n", b"=", b".", source.randbytes(1)])
        texts.append(bytes(text))
    taken = run(parsers, [answer(text) for text in texts])
    for line in taken:
        count, *words = line.split(" ")
        assert int(count) <= 16
        assert sum(word.startswith("SLURM_POWER_") for word in words) >= max(0, int(count))
    assert len(set(taken)) > 200


def test_sockets_path(parsers: Path) -> None:
    texts = [
        "/run/p.sock",
        "/run/p.%n.sock",
        "%n%n",
        "/run/%",
        "/run/%x",
        "/" + "x" * 106,
        "/" + "x" * 107,
        "",
    ]
    found = run(parsers, [f"path {text.encode().hex()}" for text in texts], SLURMD_NODENAME="c1")
    assert found[:5] == ["/run/p.sock", "/run/p.c1.sock", "c1c1", "/run/%", "/run/%x"]
    assert found[5:] == ["/" + "x" * 106, "-", "-"]
    host = os.uname().nodename.partition(".")[0]
    assert run(parsers, [f"path {b'/run/%n'.hex()}"]) == [f"/run/{host}"]
    assert run(parsers, [f"path {b'%n'.hex()}"], SLURMD_NODENAME="c" * 200) == ["-"]
