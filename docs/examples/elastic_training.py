"""A training that follows the site: it can take smaller bites, wait, or save itself and go on later.

Run it alone (`python3 elastic_training.py`) or under srun with any number of ranks. It goes on from
$CHECKPOINT if that is there, and leaves with status 85 when it has saved itself before its end. Data and
model are small stand-ins: put yours in their place.
"""

import os
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from slurm_power.advice import Advice, atomic_file

STEPS = int(os.environ.get("STEPS", "300"))
GLOBAL_BATCH = int(os.environ.get("GLOBAL_BATCH", "256"))
STEP_SECONDS = float(os.environ.get("STEP_SECONDS", "0"))  # makes a step last as long as one of a real model
CHECKPOINT = Path(os.environ.get("CHECKPOINT", "checkpoint.pt"))
SEED = 1


def join_ranks() -> tuple[int, int]:
    """This rank's number and how many there are, with torch.distributed ready where there are several."""
    rank, ranks = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if ranks > 1:
        # On GPUs: "nccl", and torch.cuda.set_device(int(os.environ["SLURM_LOCALID"])) before.
        os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ["SLURM_JOB_ID"]) % 10000))
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    return rank, ranks


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and the classes that a fixed random network gives them."""
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(4096, 64, generator=generator)
    hidden = torch.relu(inputs @ torch.randn(64, 32, generator=generator))
    return inputs, (hidden @ torch.randn(32, 10, generator=generator)).argmax(1)


def rows_of(step: int, rank: int, ranks: int) -> torch.Tensor:
    """The rows of one step for one rank. They depend on the step alone: a new start goes on exactly."""
    order = torch.randperm(4096, generator=torch.Generator().manual_seed(SEED * 1_000_003 + step))
    return order[:GLOBAL_BATCH][rank::ranks]


def train(rank: int, ranks: int) -> float:
    """Train to the end, or until asked to stop; returns the last loss."""
    inputs, classes = data()
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = nn.parallel.DistributedDataParallel(net) if ranks > 1 else net
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    start = 0
    if CHECKPOINT.exists():
        saved = torch.load(CHECKPOINT, weights_only=True)
        net.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    if rank == 0:
        print(f"from step {start} with {ranks} ranks", flush=True)

    def save(step: int) -> None:
        if rank == 0:  # all ranks have the same weights
            with atomic_file(CHECKPOINT) as file:
                torch.save(
                    {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, file
                )

    loss = torch.tensor(float("nan"))
    with Advice(global_batch=GLOBAL_BATCH, max_micro=GLOBAL_BATCH // ranks, world_size=ranks) as advice:
        advice.start_at(start)
        for step in range(start, STEPS):
            for index, rows in enumerate(rows_of(step, rank, ranks).split(advice.micro)):
                last = index == advice.accumulation - 1
                # Gradients go to the other ranks once per step, with the last of the micro-batches.
                with nullcontext() if last or ranks == 1 else model.no_sync():
                    loss = nn.functional.cross_entropy(model(inputs[rows]), classes[rows])
                    (loss / advice.accumulation).backward()
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(STEP_SECONDS)
            if rank == 0 and (step + 1) % 20 == 0:
                print(f"step {step + 1} micro-batch {advice.micro} loss {loss.item():.4f}", flush=True)
            if advice.step() and step + 1 < STEPS:
                save(step + 1)
                advice.saved(step + 1)
                advice.requeue()  # ends here with status 85: start me again
    save(STEPS)
    return loss.item()


if __name__ == "__main__":
    rank, ranks = join_ranks()
    loss = train(rank, ranks)
    if rank == 0:
        print(f"trained {STEPS} steps, loss {loss:.4f}", flush=True)
    if ranks > 1:
        dist.destroy_process_group()
