"""What following advice does to a training: nothing but rounding."""

import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from slurm_power.advice import Advice, atomic_file
from tests.advice.files import advise

GLOBAL_BATCH, STEPS = 96, 60


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_POWER_ADVICE_FILE", "SLURM_POWER_SOCKET", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(1)


class Training:
    """A small classifier, trained step by step in an order that depends on the step alone."""

    def __init__(self, checkpoint: Path) -> None:
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(512, 32, generator=generator)
        self.classes = (self.inputs @ torch.randn(32, 8, generator=generator)).argmax(1)
        torch.manual_seed(5)
        self.model = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.checkpoint = checkpoint
        self.losses: dict[int, float] = {}
        self.micros: list[int] = []
        self.start = 0
        if checkpoint.exists():
            saved = torch.load(checkpoint, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.start = saved["step"]

    def run(self, advice: Advice) -> bool:
        """Train on; True if it got to its end."""
        for step in range(self.start, STEPS):
            rows = torch.randperm(512, generator=torch.Generator().manual_seed(step))[:GLOBAL_BATCH]
            self.micros.append(advice.micro)
            whole = 0.0
            for part in torch.split(rows, advice.micro):
                loss = nn.functional.cross_entropy(self.model(self.inputs[part]), self.classes[part])
                (loss / advice.accumulation).backward()  # type: ignore[no-untyped-call] # torch's own
                whole += loss.item() / advice.accumulation
            self.losses[step] = whole
            self.optimizer.step()
            self.optimizer.zero_grad()
            if advice.step():
                state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
                with atomic_file(self.checkpoint) as file:
                    torch.save({**state, "step": step + 1}, file)
                advice.saved(step + 1)
                return False
        return True

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([parameter.flatten() for parameter in self.model.parameters()]).detach()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    training = Training(tmp_path_factory.mktemp("undisturbed") / "checkpoint")
    with Advice(global_batch=GLOBAL_BATCH, ranks="alone") as advice:
        assert training.run(advice)
    return training


def test_a_micro_batch_that_changes_all_the_time_moves_the_loss_by_rounding(
    tmp_path: Path, undisturbed: Training
) -> None:
    chance = random.Random(7)
    file = tmp_path / "advice.json"
    training = Training(tmp_path / "checkpoint")
    with Advice(global_batch=GLOBAL_BATCH, ranks="alone", file=file, look_seconds=0.0) as advice:
        true_step = advice.step

        def step() -> bool:
            advise(file, micro_batch=chance.randint(1, GLOBAL_BATCH))
            return true_step()

        advice.step = step  # type: ignore[method-assign, assignment] # the words come between two steps
        assert training.run(advice)
    assert len(set(training.micros)) > 5
    assert max(abs(training.losses[step] - undisturbed.losses[step]) for step in range(STEPS)) <= 1e-4
    assert (training.weights - undisturbed.weights).abs().max().item() <= 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_stopped_by_signals_at_any_moment_it_ends_as_undisturbed(
    tmp_path: Path, undisturbed: Training, seed: int
) -> None:
    chance = random.Random(seed)
    stops = 0
    while True:
        training = Training(tmp_path / "checkpoint")
        with Advice(global_batch=GLOBAL_BATCH, ranks="alone") as advice:
            # Only the first starts are disturbed: the training is to come to its end.
            timer = threading.Timer(chance.uniform(0.0, 0.01), os.kill, (os.getpid(), signal.SIGUSR2))
            if stops < 6:
                timer.start()
            done = training.run(advice)
            if timer.ident is not None:
                timer.join()
        if done:
            break
        stops += 1
        assert training.start < torch.load(training.checkpoint, weights_only=True)["step"], "it got on"
    assert stops > 0
    assert (training.weights - undisturbed.weights).abs().max().item() <= 1e-6


def test_batch_norm_does_see_the_micro_batch(tmp_path: Path) -> None:
    """The limit that docs/advice.md states: layers that mix samples see another batch."""
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    layer = nn.BatchNorm1d(4)
    whole = layer(inputs)
    parts = torch.cat([layer(part) for part in torch.split(inputs, 4)])
    assert (whole - parts).abs().max().item() > 0.01
