"""Our hostlist reader against rows, against itself, and against scontrol."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.slurm.hostlist import expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("c1", ("c1",)),
        ("c[1-3,7],x", ("c1", "c2", "c3", "c7", "x")),
        ("gpu[08-11]", ("gpu08", "gpu09", "gpu10", "gpu11")),
        ("r[1-2]n[01-02]", ("r1n01", "r1n02", "r2n01", "r2n02")),
        ("a[9-10]-ib", ("a9-ib", "a10-ib")),
        ("r[1-2]s[3]n[0,5]x", ("r1s3n0x", "r1s3n5x", "r2s3n0x", "r2s3n5x")),
    ],
)
def test_rows(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["c[1-2", "c1-2]", "c[2-1]", "c[a-b]", "c[]", "c[1[2]]", "c[1-]", "c1,,c2"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="node"):
        expand(text)


def test_a_bomb_is_refused() -> None:
    with pytest.raises(ValueError, match=r"range|more than"):
        expand("a[0-99999]b[0-99999]")


NUMBER = st.integers(0, 120)
WIDTH = st.integers(1, 4)


@st.composite
def brackets(draw: st.DrawFn) -> str:
    width = draw(WIDTH)
    parts = []
    for first, size in draw(st.lists(st.tuples(NUMBER, st.integers(0, 12)), min_size=1, max_size=3)):
        parts.append(f"{first:0{width}d}" + (f"-{first + size:0{width}d}" if size else ""))
    return f"[{','.join(parts)}]"


@st.composite
def hostlists(draw: st.DrawFn) -> str:
    elements = []
    for index in range(draw(st.integers(1, 3))):
        text = f"n{'abc'[index]}"
        # scontrol itself knows nothing after the last bracket.
        text += draw(st.sampled_from(["", "x", "-r"])).join(
            draw(brackets()) for _ in range(draw(st.integers(0, 2)))
        )
        elements.append(text)
    return ",".join(elements)


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least that scontrol wants to see, although it asks nobody."""
    file = tmp_path_factory.mktemp("slurm") / "slurm.conf"
    file.write_text("ClusterName=none\nSlurmctldHost=localhost\n")
    return file


@pytest.mark.skipif(shutil.which("scontrol") is None, reason="scontrol is not installed")
@settings(max_examples=120, deadline=None)
@given(text=hostlists())
def test_as_scontrol_does(conf: Path, text: str) -> None:
    shown = subprocess.run(
        ["scontrol", "show", "hostnames", text],
        env={"PATH": "/usr/bin:/bin", "SLURM_CONF": str(conf)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert expand(text) == tuple(shown.split())
