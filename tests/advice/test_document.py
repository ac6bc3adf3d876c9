"""The loop of docs/advice.md, run as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.advice.files import advise

DOCUMENT = Path(__file__).parents[2] / "docs" / "advice.md"


def test_the_loop_trains_saves_itself_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_POWER_SOCKET", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_POWER_ADVICE_FILE", str(tmp_path / "advice.json"))
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    torch.manual_seed(2)
    model = nn.Linear(8, 1)
    names: dict[str, Any] = {
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "inputs": torch.randn(1024, 8),
        "loss_of": nn.functional.mse_loss,
        "checkpoint": tmp_path / "checkpoint",
        "start": 0,
        "steps": 20,
        "rows_of": lambda step: torch.randperm(1024, generator=torch.Generator().manual_seed(step))[:256],
    }
    names["targets"] = names["inputs"].sum(1, keepdim=True)
    advise(tmp_path / "advice.json", micro_batch=16, action="checkpoint")
    with pytest.raises(SystemExit) as ended:
        exec(blocks[0], names)
    assert ended.value.code == 85
    saved = torch.load(names["checkpoint"], weights_only=True)
    assert saved["step"] == 1
    assert (names["advice"].micro, names["advice"].accumulation) == (16, 16)
    (tmp_path / "advice.json").unlink()
    names["start"] = saved["step"]
    exec(blocks[0], names)
    assert names["step"] == 19
    assert names["loss"].item() < 1.0
    for block in blocks[1:]:
        compile(block, str(DOCUMENT), "exec")
