"""Partitions as pools, and node lists there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.pool import NodeGroup, Pool
from slurm_power.slurm.hostlist import compress, expand
from slurm_power.slurm.node_note import NodeNote, node_note, with_nodes
from slurm_power.slurm.pools import parse_sinfo

PRINTED = """\
main|up|mixed|gpu:h100:8(S:0-1)|c[1-2]
main|up|idle|gpu:h100:8(S:0-1)|c3
main|up|drained|gpu:h100:8(S:0-1)|c4
main|up|idle*|gpu:h100:8(S:0-1)|c5
main|up|idle|(null)|login
old|up|idle|gpu:a100:4,gpu:v100:2|o1
shut|down|idle|gpu:8|c3
"""


def test_only_nodes_that_take_jobs_and_have_gpus_count() -> None:
    assert parse_sinfo(PRINTED) == (
        Pool(
            name="main",
            groups=(
                NodeGroup(nodes=("c1", "c2"), gpus_per_node=8, gpu_type="h100"),
                NodeGroup(nodes=("c3",), gpus_per_node=8, gpu_type="h100"),
            ),
        ),
        Pool(name="old", groups=(NodeGroup(nodes=("o1",), gpus_per_node=6, gpu_type=""),)),
        Pool(name="shut", groups=()),
    )


@pytest.mark.parametrize("text", ["main|up|idle", "main|up|idle|gpu:8|c[1-", "squeue: error"])
def test_what_is_no_such_output_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no line of|node list|do not match"):
        parse_sinfo(text)


NAMES = st.sets(st.from_regex(r"[a-z]{1,3}(-[a-z0-9]{1,2})?[0-9]{0,4}", fullmatch=True), min_size=1)


@given(NAMES)
def test_compressed_names_expand_to_the_same(names: set[str]) -> None:
    assert set(expand(compress(names))) == names


def test_runs_are_folded_by_width() -> None:
    names = ["c1", "c2", "c3", "c5", "c01", "login", "r1n10", "r1n11"]
    assert compress(names) == "login,c[1-3,5],c01,r1n[10-11]"
    assert len(compress(f"gpu{number:05d}" for number in range(10_000))) < 30


@pytest.mark.parametrize("text", ["", '{"site":{"ticket":7},"power":{"flex":"flex2","hold":{"by":"x"}}}'])
def test_a_note_leaves_all_else(text: str) -> None:
    note = NodeNote(nodes=frozenset({"c1", "c2"}), own=frozenset({"c9"}), reason="rack1 is full")
    noted = with_nodes(text, note)
    assert noted is not None
    assert node_note(noted) == note
    assert with_nodes(noted, None) == text
    assert with_nodes("ticket 4711", note) is None


@pytest.mark.parametrize(
    "avoid",
    ['"c1"', '{"nodes":"c1"}', '{"by":"slurm-power"}', '{"by":"slurm-power","nodes":"c[1-"}', "null"],
)
def test_what_is_no_note_of_ours_is_none(avoid: str) -> None:
    assert node_note(f'{{"power":{{"avoid":{avoid}}}}}') is None
