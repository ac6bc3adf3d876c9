"""``python -m containers.bench.text_tiers``: a large generator, its int8 tier and a small one, end to end.

Python's own manual, by `slurm-power tiers build` and `tiers evaluate` as a user would; then each tier is
served and asked for streams over HTTP. Processor times are of the whole commands, torch's import with them.
At the end large and small are streamed through a gateway that is switched there and back. Exits with 1 when
large and small together take more than 60 CPU-s, the larger one is not the better one, or a stream fails.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from containers.bench.text_switch import switched
from containers.bench.tiers import run
from slurm_power.model.tier import Tier
from slurm_power.tiers.catalog import read_catalog

TEXT_TASK = "slurm_power.tiers.examples.text:manual_text"
_LADDER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("large", ("full", "--epochs=3", "--batch-size=16", "--learning-rate=3e-3")),
    ("int8", ("quantize", "--parent=large")),
    ("small", ("full", "--epochs=4", "--batch-size=16", "--learning-rate=8e-3", "--shape=width=64")),
)
_COLUMNS = (
    *("tier", "perplexity", "of code", "distinct-1/2/3", "repetition-4", "seeds: same / other"),
    *("first, per token (HTTP)", "CPU per token", "multiply-adds per token", "bytes", "built in"),
)
_MOST_CPU_SECONDS = 60.0
_PROMPT, _TOKENS, _STREAMS = "The import statement", 64, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What came over HTTP, as medians over some streams; ``text`` of the first."""

    first_seconds: float
    token_seconds: float
    text: str


def main() -> int:
    """Build, evaluate, serve; returns 1 if a promise is missed."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.text_tiers", description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the tiers and the catalog here")
    parser.add_argument("--seconds", type=float, default=4.0, help="of measuring for each tier")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slurm-power-text-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        spent = build_generators(folder, arguments.seconds)
        tiers = read_catalog(folder / "tiers.toml").families["manual-text"].tiers
        streams = {tier.name: _streamed(folder / tier.name, tier.name) for tier in tiers}
        behind = switched(folder, TEXT_TASK, [tier for tier in tiers if tier.name != "int8"])
    print(_table(tiers, streams, spent))
    print(f"\n{behind.words()}")
    quality = {tier.name: tier.quality for tier in tiers}
    large, small = quality["large"], quality["small"]
    assert large is not None and small is not None and large.ci95 is not None and small.ci95 is not None
    both = spent["large"] + spent["small"]
    apart = small.value - large.value > small.ci95 + large.ci95
    print(f"\nlarge and small: {both:.1f} CPU-s of {_MOST_CPU_SECONDS:g}; large is better: {apart}")
    return 0 if both <= _MOST_CPU_SECONDS and apart and not behind.failed else 1


def build_generators(
    folder: Path, seconds: float, *, only: Sequence[str] = ("large", "int8", "small")
) -> dict[str, float]:
    """Build and evaluate each tier; returns the processor seconds of each build."""
    catalog, spent = f"--catalog={folder / 'tiers.toml'}", {}
    for name, (method, *options) in _LADDER:
        if name not in only:
            continue
        words = ["build", method, TEXT_TASK, "--family=manual-text", f"--tier={name}", *options, catalog]
        spent[name] = run([*words, f"--output={folder / name}", "--licence=PSF-2.0"])
        words = [
            "evaluate",
            TEXT_TASK,
            f"--tier=manual-text/{name}",
            catalog,
            f"--record-as=manual-text/{name}",
        ]
        run([*words, f"--seconds={seconds:g}", "--gpus=0"], refusal_is_fine=True)
        print(f"{name}: built in {spent[name]:.1f} CPU-s", file=sys.stderr, flush=True)
    return spent


@contextmanager
def _served(folder: Path, name: str) -> Iterator[int]:
    """Serve a tier; yields its port, and ends it as Slurm does."""
    words = [sys.executable, "-m", "slurm_power.tiers.examples.serve", TEXT_TASK, f"--tier={folder}"]
    process = subprocess.Popen([*words, f"--name=manual-text/{name}"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # it is a pipe
        line = process.stdout.readline()
        if not line:
            sys.exit(f"{name}: the server did not start")
        yield int(line.split(" after ")[0].rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(timeout=60)


def _streamed(folder: Path, name: str) -> Streamed:
    firsts, gaps, texts = [], [], []
    with _served(folder, name) as port:
        for seed in range(_STREAMS):
            times, text = _stream(port, seed)
            firsts.append(times[0])
            gaps += times[1:]
            texts.append(text)
    return Streamed(
        first_seconds=statistics.median(firsts), token_seconds=statistics.median(gaps), text=texts[0]
    )


def _stream(port: int, seed: int) -> tuple[list[float], str]:
    """Waiting times of the tokens of one stream, and its text; fails on any other end than a whole one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    at = time.perf_counter()
    body = {"prompt": _PROMPT, "tokens": _TOKENS, "seed": seed, "temperature": 0.6}
    connection.request("POST", "/generate", json.dumps(body))
    answer = connection.getresponse()
    times, pieces, event = [], [], ""
    for line in iter(answer.readline, b""):
        if line.startswith(b"event: "):
            event = line[7:].strip().decode()
        elif line.startswith(b"data: ") and event == "token":
            now = time.perf_counter()
            times.append(now - at)
            at = now
            pieces.append(json.loads(line[6:])["text"])
    connection.close()
    if event != "done" or len(times) != _TOKENS:
        sys.exit(f"a stream ended with {event!r} after {len(times)} tokens")
    return times, "".join(pieces)


def _table(tiers: Sequence[Tier], streams: dict[str, Streamed], spent: dict[str, float]) -> str:
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    for tier in tiers:
        quality, stream = tier.quality, streams[tier.name]
        assert quality is not None and quality.ci95 is not None  # it was evaluated
        more = quality.more
        distinct = " / ".join(f"{more[f'distinct_{n}']:.2f}" for n in (1, 2, 3))
        lines.append(
            f"| {tier.name} | {quality.value:.2f} +- {quality.ci95:.2f}"
            f" | {quality.groups.get('code', 0.0):.1f} | {distinct} | {more['repetition_4']:.3f}"
            f" | {more['consistency_same_seed']:.2f} / {more['consistency_across_seeds']:.2f}"
            f" | {1e3 * stream.first_seconds:.1f} ms, {1e3 * stream.token_seconds:.2f} ms"
            f" | {1e6 * more['cpu_seconds_per_token']:.0f} us | {(tier.multiply_adds or 0) // 64:,}"
            f" | {tier.model_bytes or 0:,} | {spent[tier.name]:.1f} CPU-s |"
        )
    lines += ["", *(f"- {tier.name}: {_PROMPT!r} -> {streams[tier.name].text!r}" for tier in tiers)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
