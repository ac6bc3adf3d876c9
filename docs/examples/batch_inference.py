"""A batch inference that may go on with a lighter model: it works through a list and keeps its place.

    python3 batch_inference.py module:object|path/to/file.py:object

Run it in a job that was submitted with --tier: the model is $SLURM_POWER_MODEL's, which may be another one
at the next start. Answers go into $RESULTS, a line for each item with the tier that gave it. If the site or
Slurm asks for it, it leaves with status 85 after the batch at hand; started again it goes on where it was.
The list is the task's test rows: put yours in their place.
"""

import os
import sys
import time
from pathlib import Path

import torch

from slurm_power.advice import Advice
from slurm_power.tiers.building.artifact import load_tier
from slurm_power.tiers.task import load_task

BATCH = int(os.environ.get("BATCH", "8"))
RESULTS = Path(os.environ.get("RESULTS", "answers.csv"))
ITEMS = int(os.environ.get("ITEMS", "0"))  # stop after so many; 0: all
# Makes an item last as long as one of a real model: seconds for each million of the model's weights.
PACE_SECONDS = float(os.environ.get("PACE_SECONDS", "0"))


def main(task_spec: str) -> None:
    """Answer what is not answered yet, until all is done or the site asks to stop."""
    tier, folder = os.environ["SLURM_POWER_TIER"], Path(os.environ["SLURM_POWER_MODEL"])
    task = load_task(task_spec)
    model = load_tier(folder, task)  # the weights are held against their sum
    million_weights = sum(weight.numel() for weight in model.state_dict().values()) / 1e6
    rows = task.split("test")
    count = min(ITEMS or len(rows.inputs), len(rows.inputs))
    with RESULTS.open("a+") as results, Advice(ranks="alone") as advice:
        results.seek(0)
        done = len(results.readlines())
        print(f"{tier} begins at item {done} of {count}", flush=True)
        while done < count:
            batch = rows.inputs[done : min(done + BATCH, count)]
            with torch.no_grad():
                answers = model(batch).argmax(1).tolist()
            time.sleep(PACE_SECONDS * million_weights * len(batch))
            results.writelines(f"{done + at},{answer},{tier}\n" for at, answer in enumerate(answers))
            results.flush()
            done += len(batch)
            if advice.step(samples=len(batch)) and done < count:
                print(f"{tier} stops at item {done}: {advice.reason}", flush=True)
                advice.saved(done)
                advice.requeue()  # ends here with status 85: start me again
    print(f"{tier} has answered the last of {count} items", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))
    main(sys.argv[1])
