"""``python -m containers.bench.tiers``: the shipped example's ladder, built and evaluated by our commands.

Handwritten digits: the full net, then quantized, pruned, distilled and searched from it, each by `slurm-power
tiers build` and `tiers evaluate` as a user would, and the Pareto plot by `tiers compare`. Two rows are there
to compare with: the student's shape trained without a teacher, and a logistic regression. Processor times are
of the whole commands, Python's start and torch's import with them. Exits with 1 when a promise is missed.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from containers.bench.figure import Figure, markdown
from slurm_power.model.tier import Family, Tier, refusals
from slurm_power.tiers.catalog import read_catalog
from slurm_power.tiers.pareto import COSTS, place

_TASK = "slurm_power.tiers.examples.digits:digits"
_COMMAND = (sys.executable, "-m", "slurm_power.cli.slurm_power", "tiers")
_RULES = """\
[family.digits]
task = "digits"
class = "inference"
metric = "accuracy"
floor = 0.95
subgroup = { by = "class", metric = "recall", max_drop = 0.06 }
"""
_STUDENT = ("--shape=first=8", "--shape=second=16", "--shape=third=16", "--shape=dense=16")
_LADDER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("full", ("full",)),
    ("int8", ("quantize", "--parent=full")),
    ("pruned", ("prune", "--parent=full", "--ratio=0.5")),
    ("distilled", ("distill", "--parent=full", *_STUDENT)),
    ("nas", ("search", "--parent=full", "--trials=20")),
    ("scratch", ("full", *_STUDENT, "--epochs=24", "--learning-rate=3e-3")),
)
_FOUR = ("int8", "pruned", "distilled", "nas")
_FOUR_CPU_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model. ``build_cpu_seconds`` is of its command, ``cpu_seconds`` of one image in a good batch."""

    name: str
    method: str
    accuracy: float
    ci95: float
    worst_class: float
    worst_class_name: str
    multiply_adds: int | None
    model_bytes: int | None
    cpu_seconds: float | None
    build_cpu_seconds: float
    on_front: bool
    refused: tuple[str, ...]


def run(words: Sequence[str], *, refusal_is_fine: bool = False) -> float:
    """Run a command of ours and return its processor seconds; exits with its words if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*_COMMAND, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in ((0, 1) if refusal_is_fine else (0,)):
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def build_ladder(folder: Path, *, seed: int, seconds: float) -> tuple[Family, dict[str, float]]:
    """Build and evaluate every tier; returns the family and the processor seconds of each build."""
    catalog = folder / "tiers.toml"
    catalog.write_text(_RULES)
    to_catalog = f"--catalog={catalog}"
    spent: dict[str, float] = {}
    for name, (method, *options) in _LADDER:
        output = f"--output={folder / name}"
        words = ["build", method, _TASK, "--family=digits", f"--tier={name}", output, f"--seed={seed}"]
        spent[name] = run([*words, *options, to_catalog, "--licence=BSD-3-Clause"])
        tier = f"--tier=digits/{name}"
        as_it_is = f"--record-as=digits/{name}"
        evaluate = ["evaluate", _TASK, tier, to_catalog, as_it_is, f"--seconds={seconds:g}", "--gpus=0"]
        run(evaluate, refusal_is_fine=True)
        print(f"{name}: built in {spent[name]:.1f} CPU-s", file=sys.stderr, flush=True)
    return read_catalog(catalog).families["digits"], spent


def row_of(family: Family, tier: Tier, *, spent: float, on_front: bool) -> Row:
    """A tier's row."""
    quality = tier.quality
    assert quality is not None  # it was evaluated
    return Row(
        name=tier.name,
        method=tier.method.value,
        accuracy=quality.value,
        ci95=quality.ci95 or 0.0,
        worst_class=quality.worst_group or 0.0,
        worst_class_name=quality.worst_group_name,
        multiply_adds=tier.multiply_adds,
        model_bytes=tier.model_bytes,
        cpu_seconds=quality.more.get("cpu_seconds_per_item"),
        build_cpu_seconds=spent,
        on_front=on_front,
        refused=refusals(family, tier),
    )


def baseline() -> Row:
    """A logistic regression of the same rows: what a ladder has to be better than."""
    intervals = importlib.import_module("slurm_power.tiers.evaluating.intervals")
    linear_model = importlib.import_module("sklearn.linear_model")
    task = importlib.import_module("slurm_power.tiers.task").load_task(_TASK)
    train, test = task.split("train"), task.split("test")
    started = time.process_time()
    model = linear_model.LogisticRegression(max_iter=2000)
    model.fit(train.inputs.flatten(1).numpy(), train.targets.numpy())
    built = time.process_time() - started
    rows = test.inputs.flatten(1).numpy()
    right = model.predict(rows) == test.targets.numpy()
    started = time.process_time()
    for _ in range(20):
        model.predict(rows)
    cpu_seconds = (time.process_time() - started) / 20 / len(rows)
    shares = {group: float(right[[one == group for one in test.groups]].mean()) for group in set(test.groups)}
    worst = min(sorted(shares), key=lambda group: shares[group])
    return Row(
        name="logistic regression",
        method="classical",
        accuracy=float(right.mean()),
        ci95=intervals.estimate(right.astype(float), task.of_mean).half_width,
        worst_class=shares[worst],
        worst_class_name=worst,
        multiply_adds=64 * 10,
        model_bytes=model.coef_.nbytes + model.intercept_.nbytes,
        cpu_seconds=cpu_seconds,
        build_cpu_seconds=built,
        on_front=False,
        refused=(),
    )


def table(rows: Sequence[Row]) -> str:
    """The ladder in Markdown."""
    lines = [
        "| tier | method | accuracy | worst class | multiply-adds | bytes | CPU us/image | built in | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        remark = "; ".join(f"refused: {why}" for why in row.refused) or (
            "on the front" if row.on_front else ""
        )
        cells = (
            row.name,
            row.method,
            f"{100 * row.accuracy:.1f} +- {100 * row.ci95:.1f} %",
            f"{100 * row.worst_class:.1f} % ({row.worst_class_name})",
            f"{row.multiply_adds or 0:,}",
            f"{row.model_bytes or 0:,}",
            f"{1e6 * (row.cpu_seconds or 0.0):.1f}",
            f"{row.build_cpu_seconds:.1f} CPU-s",
            remark,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Build the ladder, print it, and hold it against the promise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=4.0, help="of measuring each tier")
    parser.add_argument("--by", default="macs", choices=tuple(COSTS), help="cost of the plot")
    parser.add_argument("--figure", type=Path, help="write the Pareto plot here (.svg)")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    parser.add_argument("--keep", type=Path, help="keep the tiers and their catalog in this new folder")
    said = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of all that is started from here, too
    with tempfile.TemporaryDirectory(prefix="sp-tiers-") as temporary:
        folder = said.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        family, spent = build_ladder(folder, seed=said.seed, seconds=said.seconds)
        front = {placed.tier.name for placed in place(family, COSTS[said.by]) if placed.on_front}
        if said.figure:
            run(
                [
                    "compare",
                    "digits",
                    f"--catalog={folder / 'tiers.toml'}",
                    f"--by={said.by}",
                    f"--output={said.figure}",
                ]
            )
    rows = [
        row_of(family, tier, spent=spent[tier.name], on_front=tier.name in front) for tier in family.tiers
    ]
    rows.append(baseline())
    if said.json:
        said.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    four = sum(spent[name] for name in _FOUR)
    promise = Figure(
        what="building the four tiers of the digits example, processor time of the commands",
        value=f"{four:.0f} s (the full model before: {spent['full']:.0f} s)",
        target=f"{_FOUR_CPU_SECONDS:.0f} s",
        ratio=four / _FOUR_CPU_SECONDS,
    )
    print(table(rows))
    print()
    print(markdown([promise]))
    missed = [row.name for row in rows if row.name in _FOUR and row.accuracy < (family.floor or 0.0)]
    if four > _FOUR_CPU_SECONDS or missed:
        sys.exit(f"missed: {', '.join(missed) or 'the time'}")


if __name__ == "__main__":
    main()
