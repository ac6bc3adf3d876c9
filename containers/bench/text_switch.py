"""A large and a small generator behind a gateway, switched there and back while clients stream from it."""

import http.client
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from containers.bench.gateway_stage import Stage
from slurm_power.model.tier import Tier

_CLIENTS = 3
_TOKENS = 2000
_SEEDS = 3
_PROMPT = "The import statement"
_EACH = 4
_SECONDS = 120.0
SERVICE = """
name = "chat"
family = "manual-text"
full_tier = "{full}"
tiers_ok = ["{light}"]
listen = "127.0.0.1:{port}"
directory = "jobs"
script = "service.toml"
environment = {{ OMP_NUM_THREADS = "1" }}
[warm_up]
path = "/generate"
method = "POST"
body = '{{"prompt": "The", "tokens": 2}}'
[limits]
probation_seconds = 1
drain_seconds = 60
stop_seconds = 10
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One stream as a client saw it; ``end`` is the name of its last event, or what broke."""

    tier: str
    seed: int
    end: str
    tokens: int
    text: str
    began_seconds: float
    ended_seconds: float


@dataclass(slots=True, kw_only=True)
class Switched:
    """All streams, and how long each switch took: from the wish to the old tier's end."""

    streams: list[Generated] = field(default_factory=list)
    there_seconds: float = 0.0
    back_seconds: float = 0.0
    open_at_shift: int = 0

    @property
    def failed(self) -> list[Generated]:
        """Streams that did not come whole."""
        return [one for one in self.streams if one.end != "done" or one.tokens != _TOKENS]

    @property
    def texts(self) -> dict[tuple[str, int], set[str]]:
        """What each tier has made of each seed: one text, whenever it was asked."""
        found: dict[tuple[str, int], set[str]] = {}
        for one in self.streams:
            found.setdefault((one.tier, one.seed), set()).add(one.text)
        return found

    def words(self) -> str:
        """For a terminal."""
        tiers = Counter(one.tier for one in self.streams)
        took = {
            tier: statistics.median(
                one.ended_seconds - one.began_seconds for one in self.streams if one.tier == tier
            )
            for tier in tiers
        }
        same = all(len(texts) == 1 for texts in self.texts.values())
        whole = ", ".join(f"{count} by {tier} ({took[tier]:.1f} s)" for tier, count in sorted(tiers.items()))
        return (
            f"through the gateway, streams of {_TOKENS} tokens: {whole}; {len(self.failed)} failed;"
            f" {self.open_at_shift} were open at the shifts; same seed, same text by each tier: {same};"
            f" there in {self.there_seconds:.1f} s, back in {self.back_seconds:.1f} s"
        )


class _Clients:
    """Some clients, each with one stream after another, until they are stopped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: list[Generated] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(number,)) for number in range(_CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def count(self, tier: str) -> int:
        return sum(one.tier.endswith(f"/{tier}") for one in self.streams)

    def _go_on(self, number: int) -> None:
        seed = number
        while not self._stopped.is_set():
            self.streams.append(_stream(self.port, seed % _SEEDS))
            seed += 1


def switched(folder: Path, task: str, tiers: Sequence[Tier]) -> Switched:
    """Serve the heavier of two tiers of ``folder``, switch to the other and back; raises TimeoutError."""
    light, full = sorted(tiers, key=lambda tier: tier.model_bytes or 0)
    stage = Stage()
    text = SERVICE.format(full=full.name, light=light.name, port=stage.port)
    for tier in (full, light):
        serve = f"{sys.executable} -m slurm_power.tiers.examples.serve {task} --tier={folder / tier.name}"
        command = f"{serve} --name=manual-text/{tier.name} --sha256={tier.sha256} --address-file"
        text += f"[tier.{tier.name}]\nenvironment = {{ TIER_COMMAND = {json.dumps(command)} }}\n"
    stage.service.write_text(text)
    clients, found = _Clients(stage.port), Switched()
    try:
        stage.start_gateway()
        _until(lambda: stage.alone(full.name), stage)
        clients.start()
        _until(lambda: clients.count(full.name) >= _EACH, stage)
        found.there_seconds = _switch(stage, light.name)
        before = clients.count(light.name)
        _until(lambda: clients.count(light.name) >= before + _EACH, stage)
        found.back_seconds = _switch(stage, full.name)
        before = clients.count(full.name)
        _until(lambda: clients.count(full.name) >= before + _EACH, stage)
        shifts = stage.said_at("serves: new requests go to it")[1:]
    finally:
        clients.stop()
        stage.close()
    found.streams = clients.streams
    found.open_at_shift = sum(
        one.began_seconds < at < one.ended_seconds for one in found.streams for at in shifts
    )
    return found


def _switch(stage: Stage, tier: str) -> float:
    began = time.monotonic()
    stage.ask(op="switch", tier=tier)
    _until(lambda: stage.alone(tier), stage)
    return time.monotonic() - began


def _until(happened: Callable[[], bool], stage: Stage) -> None:
    deadline = time.monotonic() + _SECONDS
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{stage.members()}\n{stage.log()}")
        time.sleep(0.05)


def _stream(port: int, seed: int) -> Generated:
    """One stream to its end, whatever that is."""
    began, tier, event, pieces = time.time(), "", "nothing", []
    body = json.dumps({"prompt": _PROMPT, "tokens": _TOKENS, "seed": seed, "temperature": 0.6})
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("POST", "/generate", body, headers)
        answer = connection.getresponse()
        tier = answer.headers.get("X-Model-Tier", "")
        for line in iter(answer.readline, b""):
            if line.startswith(b"event: "):
                event = line[7:].strip().decode()
            elif line.startswith(b"data: ") and event == "token":
                pieces.append(str(json.loads(line[6:])["text"]))
        if answer.status != http.HTTPStatus.OK:
            event = f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        event = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return Generated(
        tier=tier,
        seed=seed,
        end=event,
        tokens=len(pieces),
        text="".join(pieces),
        began_seconds=began,
        ended_seconds=time.time(),
    )
