"""resources.yaml: what is written reads back, is there whole, and changes neither wildly nor in vain."""

import asyncio
from pathlib import Path

import pytest

from slurm_power.plan.hres import HresTree, Layer
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.hres_file import (
    LOWER_SECONDS,
    RAISE_SECONDS,
    HresFile,
    ask_slurm,
    hres_text,
    parse_hres,
    resource_problems,
    write_whole,
)


def tree(left: int = 600, *, resource: str = "power", name: str = 'rack # 1\n"x"') -> HresTree:
    return HresTree(
        resource=resource,
        layers=(
            Layer(
                nodes=frozenset({"n1", "n2", "n10", "login"}),
                count=1000,
                base={"other_load": 7},
                circuits=("grid",),
            ),
            Layer(
                nodes=frozenset({"n1", "n2"}),
                count=left,
                base={"nodes_at_rest": 20},
                circuits=("a", name),
            ),
            Layer(nodes=frozenset({"n10", "login"}), count=None),
        ),
    )


def test_the_text_reads_back_whatever_circuits_are_called() -> None:
    text = hres_text(tree())
    assert parse_hres(text) == (
        "power",
        (
            (frozenset({"n1", "n2", "n10", "login"}), 1000, (("other_load", 7),)),
            (frozenset({"n1", "n2"}), 600, (("nodes_at_rest", 20),)),
            (frozenset({"n10", "login"}), None, ()),
        ),
    )
    assert len(text.splitlines()) == 6


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "{}", "[1]", "[{}, {}]", hres_text(tree())[:-9]),
        '[{"resource":"p","mode":"MODE_1","layers":[]}]',
    ],
)
def test_no_other_text_is_taken_for_ours(text: str) -> None:
    with pytest.raises(ValueError):
        parse_hres(text)


def test_what_slurm_would_not_bear_is_never_written(tmp_path: Path) -> None:
    file = tmp_path / "resources.yaml"
    bad = HresTree(resource="power", layers=(tree().layers[0], tree().layers[1]))
    for wrong in (bad, HresTree(resource="power", layers=()), tree(resource="a b"), tree(left=19)):
        with pytest.raises(ValueError):
            HresFile(file).update(wrong, 0.0)
        assert not file.exists()


def test_names_that_slurm_has_or_would_not_take() -> None:
    assert resource_problems(tree(), ["matlab"]) == []
    assert "licence of this name" in resource_problems(tree(), ["power"])[0]
    strange = HresTree(resource="1st", layers=(Layer(nodes=frozenset({"n 1"}), count=1),))
    assert [problem.split(" ")[0] for problem in resource_problems(strange)] == ["'1st'", "'n"]


def test_counts_fall_at_once_and_rise_after_a_while(tmp_path: Path) -> None:
    file = HresFile(tmp_path / "resources.yaml")

    def left() -> int | None:
        return parse_hres((tmp_path / "resources.yaml").read_text())[1][1][1]

    assert file.update(tree(600), 0.0)
    asyncio.run(file.reconfigure(_answering(tmp_path, 0)))
    assert not file.update(tree(600), 1.0)
    assert not file.update(tree(500), LOWER_SECONDS - 1.0)
    assert left() == 600
    assert file.update(tree(500), LOWER_SECONDS + 1.0)
    assert left() == 500
    asyncio.run(file.reconfigure(_answering(tmp_path, 0)))
    assert not file.update(tree(600), LOWER_SECONDS + RAISE_SECONDS)
    assert left() == 500
    assert file.update(tree(600), LOWER_SECONDS + RAISE_SECONDS + 2.0)
    assert left() == 600


def test_slurm_is_told_until_it_has_listened(tmp_path: Path) -> None:
    file = HresFile(tmp_path / "resources.yaml")
    assert file.update(tree(), 0.0)
    with pytest.raises(SchedulerError):
        asyncio.run(file.reconfigure(_answering(tmp_path, 1)))
    assert file.update(tree(), 1.0)
    asyncio.run(file.reconfigure(_answering(tmp_path, 0)))
    assert not file.update(tree(), 2.0)


def test_a_foreign_file_is_replaced_at_once(tmp_path: Path) -> None:
    for foreign in (b"- resource: power\n", b"\xff\x00", b""):
        (tmp_path / "resources.yaml").write_bytes(foreign)
        assert HresFile(tmp_path / "resources.yaml").update(tree(), 0.0)
        assert (tmp_path / "resources.yaml").read_text() == hres_text(tree())


def test_the_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "resources.yaml"
    write_whole(file, "old")
    assert file.stat().st_mode & 0o777 == 0o644
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "new \udcff")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["resources.yaml"]


def _answering(folder: Path, status: int, **printed: str) -> CommandRunner:
    """Commands that say what they are told to, in place of a Slurm's."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("scontrol", "sinfo"):
        program = programs / name
        program.write_text(f"#!/bin/sh\ncat {programs}/$1.says 2>/dev/null\nexit {status}\n")
        program.chmod(0o755)
    for name, text in printed.items():
        (programs / f"--{name}.says").write_text(text)
    return CommandRunner(None, search_path=f"{programs}:/usr/bin:/bin")


def test_slurm_is_asked_for_version_nodes_and_licences(tmp_path: Path) -> None:
    shown = (
        "LicenseName=watts Total=9 Used=0 Free=9 Reserved=0 Remote=no\n"
        "LicenseName=power Total=9 Used=0 Free=9 Reserved=0 Remote=no Nodes=c[1-4] Mode=3\n"
    )
    commands = _answering(tmp_path, 0, version="slurm 26.05.5\n", noheader="c1\nc1\nc2\n", oneliner=shown)
    assert asyncio.run(ask_slurm(commands)) == ((26, 5, 5), ("c1", "c2"), ("watts",))
    with pytest.raises(SchedulerError, match="no version"):
        asyncio.run(ask_slurm(_answering(tmp_path, 0, version="slurm\n")))
