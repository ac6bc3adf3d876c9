"""The adapters with the real Lightning and the real Trainer, on models that train in a second."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.advice.files import advise

pytestmark = pytest.mark.slow
STEPS = 40


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_POWER_SOCKET", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SLURM_POWER_ADVICE_FILE", str(tmp_path / "advice.json"))
    yield tmp_path / "advice.json"
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL, "the signal is as it was"


class Lit:
    """A fit of a small model, `run` returns its callback."""

    def __init__(self, folder: Path) -> None:
        self.lightning: Any = pytest.importorskip("pytorch_lightning")
        self.folder = folder
        self.sizes: list[int] = []
        self.accumulations: list[int] = []
        self.at_step: Any = lambda _step: None
        self.signal_after: int | None = None

    def run(self, *, reload: bool = True, steps: int = STEPS, plugins: Any = None, **more: Any) -> Any:
        import torch
        from torch import nn

        from slurm_power.advice.lightning import AdviceCallback

        outer = self
        callback = AdviceCallback(self.folder / "last.ckpt", global_batch=32, **more)
        inputs = torch.randn(128, 8, generator=torch.Generator().manual_seed(3))
        targets = inputs.sum(1, keepdim=True)

        class Module(self.lightning.LightningModule):  # type: ignore[misc, name-defined] # no types to check with
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(3)
                self.net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

            def training_step(self, batch: Any, _index: int) -> Any:
                outer.sizes.append(len(batch[0]))
                outer.accumulations.append(outer.trainer.accumulate_grad_batches)
                outer.at_step(self.global_step)
                if len(outer.sizes) - 1 == outer.signal_after:
                    os.kill(os.getpid(), signal.SIGUSR2)
                return nn.functional.mse_loss(self.net(batch[0]), batch[1])

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.05)

            def train_dataloader(self) -> Any:
                data = torch.utils.data.TensorDataset(inputs, targets)
                size = callback.micro if reload else 32
                return torch.utils.data.DataLoader(data, batch_size=size)

        self.trainer = self.lightning.Trainer(
            max_steps=steps,
            min_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=self.folder,
            reload_dataloaders_every_n_epochs=int(reload),
            callbacks=[callback],
            plugins=plugins,
        )
        self.module = Module()
        self.trainer.fit(self.module, ckpt_path=callback.resume_path, weights_only=False)
        return callback

    @property
    def weights(self) -> Any:
        import torch

        return torch.cat([parameter.flatten() for parameter in self.module.parameters()]).detach()


def test_lightning_stops_by_a_signal_and_ends_as_undisturbed(tmp_path: Path, file: Path) -> None:
    undisturbed = Lit(tmp_path / "a")
    undisturbed.run().leave_if_asked()
    chance = random.Random(1)
    stopped = 0
    while True:
        lit = Lit(tmp_path / "b")
        # At the end of an epoch of four steps: in the middle of one Lightning itself begins its loader anew.
        at = 4 * chance.randint(1, 4) - 1

        lit.signal_after = at if stopped < 3 else None
        callback = lit.run()
        if not callback._advice:
            break
        stopped += 1
        with pytest.raises(SystemExit) as ended:
            callback.leave_if_asked()
        assert ended.value.code == 85
        assert lit.trainer.global_step < STEPS
        assert [entry.name for entry in (tmp_path / "b").iterdir()] == ["last.ckpt"]
    assert stopped == 3
    assert (lit.weights - undisturbed.weights).abs().max().item() <= 1e-6


def test_lightning_takes_a_micro_batch_from_the_next_epoch_on(tmp_path: Path, file: Path) -> None:
    undisturbed = Lit(tmp_path / "a")
    undisturbed.run(max_micro=32)
    lit = Lit(tmp_path / "b")
    advise(file, micro_batch=8)
    lit.at_step = lambda step: file.unlink(missing_ok=True) if step == 9 else None
    callback = lit.run(max_micro=32)
    callback.leave_if_asked()
    assert set(lit.sizes) <= {8, 32}
    assert lit.sizes[0] == 8
    assert {size * times for size, times in zip(lit.sizes, lit.accumulations, strict=True)} == {32}
    assert lit.trainer.global_step == STEPS
    assert (lit.weights - undisturbed.weights).abs().max().item() <= 1e-5


def test_lightning_says_which_knob_it_lacks_and_pauses(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    advise(file, action="pause", micro_batch=8, seconds=1.5)
    lit = Lit(tmp_path)
    paused: list[float] = []
    from slurm_power.advice import lightning

    class Watched(lightning.AdviceCallback):
        def teardown(self, *words: Any, **more: Any) -> None:
            paused.append(self.advice.paused_seconds)
            super().teardown(*words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning, "AdviceCallback", Watched)
        lit.run(reload=False)
    assert set(lit.sizes) == {32}
    assert paused[0] > 0.1
    assert "advice on the micro-batch is not followed" in caplog.text


def test_lightning_s_own_requeue_is_turned_off(
    tmp_path: Path, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Lightning's own on the same signal: it alone would run ``scontrol`` within the handler."""
    environments: Any = pytest.importorskip("pytorch_lightning.plugins.environments")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    for name, value in (("NTASKS", "1"), ("JOB_ID", "17"), ("JOB_NAME", "training"), ("NODELIST", "c1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    environment = environments.SLURMEnvironment(auto_requeue=True, requeue_signal=signal.SIGUSR2)
    lit = Lit(tmp_path)
    lit.signal_after = 5
    callback = lit.run(plugins=[environment])
    assert "auto_requeue is off" in caplog.text
    assert (callback.advice.stopping, lit.trainer.global_step) == (True, 6)
    with pytest.raises(SystemExit):
        callback.leave_if_asked()


class Hugging:
    """A run of the Trainer on a small model."""

    def __init__(self, folder: Path) -> None:
        self.transformers: Any = pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        self.folder = folder

    def run(self, signal_at: int | None = None) -> Any:
        import torch
        from torch import nn

        from slurm_power.advice.transformers import AdviceCallback, last_checkpoint

        inputs = torch.randn(256, 8, generator=torch.Generator().manual_seed(4))
        rows = [{"x": row, "labels": row.sum()[None]} for row in inputs]

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(4)
                self.net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

            def forward(self, x: Any, labels: Any) -> dict[str, Any]:
                if signal_at is not None and outer.trainer.state.global_step == signal_at:
                    os.kill(os.getpid(), signal.SIGUSR2)
                return {"loss": nn.functional.mse_loss(self.net(x), labels)}

        outer = self
        arguments = self.transformers.TrainingArguments(
            output_dir=str(self.folder),
            max_steps=STEPS,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=4,
        )
        callback = AdviceCallback()
        self.model = Model()
        self.trainer = self.transformers.Trainer(
            model=self.model, args=arguments, train_dataset=rows, callbacks=[callback]
        )
        self.trainer.train(resume_from_checkpoint=last_checkpoint(self.folder))
        return callback

    @property
    def weights(self) -> Any:
        import torch

        return torch.cat([parameter.flatten() for parameter in self.model.parameters()]).detach()


def test_the_trainer_stops_by_a_signal_and_ends_as_undisturbed(tmp_path: Path, file: Path) -> None:
    from slurm_power.advice.transformers import last_checkpoint

    undisturbed = Hugging(tmp_path / "a")
    undisturbed.run().leave_if_asked()
    assert last_checkpoint(tmp_path / "a") is None
    for at in (3, 17):
        hugging = Hugging(tmp_path / "b")
        callback = hugging.run(signal_at=at)
        assert hugging.trainer.state.global_step == at + 1
        with pytest.raises(SystemExit) as ended:
            callback.leave_if_asked()
        assert ended.value.code == 85
        # What a writer that was killed leaves is newer, and is not taken.
        (tmp_path / "b" / "checkpoint-99").mkdir(exist_ok=True)
        assert last_checkpoint(tmp_path / "b") == str(tmp_path / "b" / f"checkpoint-{at + 1}")
    hugging = Hugging(tmp_path / "b")
    hugging.run().leave_if_asked()
    assert hugging.trainer.state.global_step == STEPS
    assert (hugging.weights - undisturbed.weights).abs().max().item() <= 1e-6


def test_the_trainer_waits_while_paused(tmp_path: Path, file: Path) -> None:
    advise(file, action="pause", seconds=1.5)
    hugging = Hugging(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        from slurm_power.advice import transformers

        paused: list[float] = []

        class Watched(transformers.AdviceCallback):
            def on_train_end(self, *words: Any, **more: Any) -> None:
                paused.append(self.advice.paused_seconds)
                super().on_train_end(*words, **more)

        patch.setattr(transformers, "AdviceCallback", Watched)
        hugging.run()
    assert paused[0] > 0.1
    assert hugging.trainer.state.global_step == STEPS
