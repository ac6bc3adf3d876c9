"""The fingerprint of a pipeline: what it sees, what it overlooks on purpose, and what it says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slurm_power.tiers.evaluating.fingerprint import fingerprint_of, skew
from slurm_power.tiers.examples.digits import digits
from slurm_power.tiers.examples.text import encode
from slurm_power.tiers.task import Task
from tests.tiers.evaluating.tasks import Signs, signs


def through(change: Callable[[Tensor], Tensor]) -> list[str]:
    """What is said of a pipeline with a change at its end."""

    class Changed(Signs):
        def prepare(self, raw: object) -> Tensor:
            return change(super().prepare(raw))

    return skew(fingerprint_of(signs), fingerprint_of(Changed()))


def test_the_same_pipeline_is_the_same() -> None:
    assert skew(fingerprint_of(signs), fingerprint_of(Signs())) == []
    assert fingerprint_of(signs)["sha256"] == fingerprint_of(Signs())["sha256"]


def test_last_digits_of_another_processor_are_no_skew() -> None:
    assert through(lambda made: made * (1.0 + 1e-6)) == []


@pytest.mark.parametrize("task", [signs, digits], ids=["signs", "digits"])
def test_nor_do_they_give_it_another_name(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    before, prepare = fingerprint_of(task)["sha256"], task.prepare
    for ratio in (1e-7, -1e-7, 1e-6, -1e-6):
        monkeypatch.setattr(task, "prepare", lambda raw, ratio=ratio: prepare(raw) * (1.0 + ratio))
        assert fingerprint_of(task)["sha256"] == before
    for change in (1.1, -1.0):
        monkeypatch.setattr(task, "prepare", lambda raw, change=change: prepare(raw) * change)
        assert fingerprint_of(task)["sha256"] != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made * 2.0, "most 3 in training, 6 now"),
        (lambda made: made + 0.01, "mean "),
        (lambda made: made.flip(0), "other numbers, of the same mean and range"),
        (lambda made: made.double(), "another type of number: float32 in training, float64 now"),
        (lambda made: made.unsqueeze(0), "another shape: [6] in training, [1, 6] now"),
        (lambda made: made * float("nan"), "finite numbers in one of the two only"),
        (lambda made: torch.where(made == 3.0, 2.99, made), "other numbers"),
    ],
)
def test_a_changed_pipeline_is_told(change: Callable[[Tensor], Tensor], said: str) -> None:
    found = through(change)
    assert found[0].startswith("probe item 1: ")
    assert said in found[0]


def test_whole_numbers_have_to_be_the_same() -> None:
    class Tokens(Signs):
        shift = 0

        def prepare(self, raw: object) -> Tensor:  # noqa: ARG002 - always the same text
            return torch.tensor(encode("The list is")) + self.shift

    class Shifted(Tokens):
        shift = 1

    before = fingerprint_of(Tokens())
    assert skew(before, fingerprint_of(Tokens())) == []
    assert "another content" in skew(before, fingerprint_of(Shifted()))[0]


def test_other_probes_and_damage_are_told() -> None:
    now = fingerprint_of(signs)
    assert "gave 1 items" in skew({**now, "items": now["items"][:1]}, now)[0]
    assert "version 7" in skew({**now, "version": 7}, now)[0]
    assert "damaged" in skew({**now, "items": "none"}, now)[0]
    spoiled = [{**item, "sums": "x", "mean": None} for item in now["items"]]
    assert "other numbers" in skew({**now, "items": spoiled}, now)[0]


def test_many_differing_items_are_counted() -> None:
    now = fingerprint_of(signs)
    other = {**now, "items": [{**now["items"][0], "shape": [9]}] * 8}
    found = skew(other, {**now, "items": [now["items"][0]] * 8})
    assert len(found) == 4
    assert found[-1] == "and 5 more of 8 items"
