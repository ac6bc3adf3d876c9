"""The words that give a job another number of GPUs, for every way that Slurm writes a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.ports import SchedulerError
from slurm_power.slurm.gpu_request import ASKED_AS, changed_request, changed_watts


@pytest.mark.parametrize(
    ("key", "text", "node_count", "gpu_count", "words"),
    [
        ("tres-per-node", "gres:gpu:4", 1, 2, {"TresPerNode": "gres:gpu:2"}),
        ("tres-per-node", "gres:gpu:h100:4", 1, 2, {"TresPerNode": "gres:gpu:h100:2"}),
        ("tres-per-node", "gres/gpu:4", 2, 2, {"TresPerNode": "gres/gpu:1"}),
        ("tres-per-node", "gres/gpu=4", 2, 6, {"TresPerNode": "gres/gpu=3"}),
        ("tres-per-node", "gres/gpu:h100=8", 4, 16, {"TresPerNode": "gres/gpu:h100=4"}),
        ("tres-per-node", "gpu:8", 0, 4, {"TresPerNode": "gpu:4"}),
        ("tres-per-node", "gres/nic:2,gres/gpu:4", 1, 1, {"TresPerNode": "gres/nic:2,gres/gpu:1"}),
        ("tres-per-job", "gres:gpu:16", 2, 3, {"TresPerJob": "gres:gpu:3"}),
        ("tres-per-job", "gres/gpu:a100=16", 1, 8, {"TresPerJob": "gres/gpu:a100=8"}),
        ("tres-per-node", "gres:gpu:4", 2, 8, {}),
        ("tres-per-job", "gres:gpu:4", 2, 4, {}),
    ],
)
def test_words(key: str, text: str, node_count: int, gpu_count: int, words: dict[str, str]) -> None:
    assert changed_request({key: text}, node_count=node_count, gpu_count=gpu_count) == words


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "in one way alone"),
        ({"tres-per-node": "gres/nic:1"}, "in one way alone"),
        ({"tres-per-node": "gres:gpu:4", "tres-per-job": "gres:gpu:4"}, "in one way alone"),
        ({"tres-per-task": "gres:gpu:1"}, "by task, which cannot"),
        ({"tres-per-socket": "gres:gpu:1"}, "by socket, which cannot"),
        ({"tres-per-node": "gres:gpu"}, "not understood"),
        ({"tres-per-node": "gres:gpu:a:2,gres:gpu:b:2"}, "not understood"),
        ({"tres-per-node": "gres:gpu:1K"}, "not understood"),
        ({"tres-per-node": "gres:gpu:4(S:0)"}, "not understood"),
    ],
)
def test_what_cannot_be_changed_says_why(asked: dict[str, str], why: str) -> None:
    with pytest.raises(SchedulerError, match=why):
        changed_request(asked, node_count=1, gpu_count=2)


@pytest.mark.parametrize(
    ("key", "node_count", "gpu_count"),
    [("tres-per-node", 2, 3), ("tres-per-node", 2, 1), ("tres-per-job", 4, 3), ("tres-per-job", 1, 0)],
)
def test_a_job_keeps_its_nodes(key: str, node_count: int, gpu_count: int) -> None:
    with pytest.raises(SchedulerError, match=r"cannot be divided|given no"):
        changed_request({key: "gres:gpu:4"}, node_count=node_count, gpu_count=gpu_count)


@given(
    asked=st.dictionaries(st.sampled_from([*ASKED_AS, "x"]), st.text("gresgpu:/=,0129hK ", max_size=24)),
    node_count=st.integers(-1, 5),
    gpu_count=st.integers(-1, 70),
)
def test_anything_else_is_refused_or_keeps_all_but_a_number(
    asked: dict[str, str], node_count: int, gpu_count: int
) -> None:
    try:
        words = changed_request(asked, node_count=node_count, gpu_count=gpu_count)
    except SchedulerError:
        return
    if not words:
        return
    ((name, text),) = words.items()
    before = asked["tres-per-job" if name == "TresPerJob" else "tres-per-node"]
    assert text.rstrip("0123456789") != ""
    same = [one for one, other in zip(before.split(","), text.split(","), strict=True) if one == other]
    assert len(same) == before.count(","), "one part of it has changed"


@pytest.mark.parametrize(
    ("licences", "before", "after", "words"),
    [
        ("watts:8000", 8, 4, {"Licenses": "watts:4000"}),
        ("matlab:1,watts:8001", 8, 4, {"Licenses": "matlab:1,watts:4001"}),
        ("watts:1", 8, 1, {"Licenses": "watts:1"}),
        ("matlab:1", 8, 4, {}),
        ("", 8, 4, {}),
        ("watts:8000", 8, 8, {}),
        ("watts:8000|matlab:1", 8, 4, {}),
    ],
)
def test_with_fewer_gpus_it_needs_fewer_watts(
    licences: str, before: int, after: int, words: dict[str, str]
) -> None:
    assert changed_watts(licences, "watts", before=before, after=after) == words
