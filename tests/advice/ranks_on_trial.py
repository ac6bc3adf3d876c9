"""``python ranks_on_trial.py FOLDER``: pairs of ranks, each through one case; what each saw goes to a file.

Torch is loaded once; the ranks are forks, each case with a pair of its own.
"""

import json
import logging
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from slurm_power.advice import Advice
from tests.advice.files import advise

RANKS = 2


def training(rank: int, steps: int, advice: Advice, *, together: bool = True) -> dict[str, Any]:
    """Steps of a millisecond that meet in an all-reduce, as gradients do; what was asked at which step."""
    micros, stopped_at = [], None
    gradient = torch.ones(8)
    for step in range(steps):
        micros.append(advice.micro)
        time.sleep(0.001)
        if together:
            dist.all_reduce(gradient)
        if step == 20 and rank == 1 and os.environ["CASE"] in ("signal", "requeue"):
            os.kill(os.getpid(), signal.SIGUSR2)
        if step == 20 and rank == 0 and os.environ["CASE"] == "micro":
            advise(Path(os.environ["ADVICE"]), micro_batch=8)
        if step == 20 and rank == 1 and os.environ["CASE"] == "pause":
            advise(Path(os.environ["ADVICE"]), action="pause", seconds=0.6)
        if step == 20 and rank == 1 and os.environ["CASE"] == "death":
            os._exit(3)
        if advice.step():
            stopped_at = step
            break
    return {"micros": micros, "stopped_at": stopped_at, "paused_seconds": advice.paused_seconds}


def rank_of_case(case: str, folder: Path, rank: int) -> None:
    """One rank of one case."""
    os.environ |= {"CASE": case, "ADVICE": str(folder / f"{case}-{rank}.json"), "WORLD_SIZE": str(RANKS)}
    logging.basicConfig(filename=folder / f"{case}-{rank}.log")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/{case}.store",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=60),
    )
    before = case == "start"
    if before and rank == 1:
        advise(Path(os.environ["ADVICE"]), micro_batch=16)
    lone = case == "lone"
    seen: dict[str, Any] = {}
    if lone and rank == 1:
        for _ in range(60):
            dist.all_reduce(torch.ones(8))
    else:
        with Advice(
            global_batch=64,
            world_size=RANKS,
            file=os.environ["ADVICE"],
            look_seconds=0.0,
            meet_seconds=0.5 if lone else 30.0,
        ) as advice:
            if lone:
                os.kill(os.getpid(), signal.SIGUSR2)
            seen = training(rank, 60 if lone else 150, advice, together=case != "death")
            if case == "requeue":
                if rank == 0:
                    time.sleep(0.5)  # a checkpoint that takes its time
                seen["saved_at"] = time.monotonic()
                (folder / f"{case}-{rank}.seen").write_text(json.dumps(seen))
                try:
                    advice.requeue()
                finally:
                    seen["left_at"] = time.monotonic()
                    (folder / f"{case}-{rank}.seen").write_text(json.dumps(seen))
    (folder / f"{case}-{rank}.seen").write_text(json.dumps(seen))
    dist.destroy_process_group()


def main(folder: Path, cases: list[str]) -> None:
    """Run all cases at once and write how each rank ended."""
    pids = {}
    for case in cases:
        for rank in range(RANKS):
            pid = os.fork()
            if pid == 0:
                rank_of_case(case, folder, rank)
                sys.exit(0)
            pids[pid] = f"{case}-{rank}"
    ends = {name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, name in pids.items()}
    (folder / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
