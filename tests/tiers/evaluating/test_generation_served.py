"""The small server, as a process: streams, refusals, and its end while it streams."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from slurm_power.tiers.evaluating.generation import Sampling, text_pieces, tokens_of
from slurm_power.tiers.examples.serve import TIER_HEADER, TierServer, main
from slurm_power.tiers.examples.text import ManualText, manual_text
from slurm_power.tiers.task import Task
from tests.tiers.evaluating import tasks
from tests.tiers.evaluating.conftest import TEXT, Generators
from tests.tiers.evaluating.tasks import SPEC, signs, tier_of, weigh

NAME = "chat/small"


@dataclass(slots=True)
class Served:
    port: int
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any], str]:
        return ask(self.port, method, path, body)


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    text = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
    connection.request(method, path, text)
    answer = connection.getresponse()
    said, tier = answer.read(), answer.headers.get(TIER_HEADER, "")
    connection.close()
    return answer.status, json.loads(said), tier


def events(lines: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            yield name, json.loads(line[6:])


def stream(port: int, path: str, body: object = None) -> tuple[http.client.HTTPResponse, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    return answer, events(iter(answer.readline, b""))


@contextmanager
def served(*words: object) -> Iterator[Served]:
    process = subprocess.Popen(
        [sys.executable, "-m", "slurm_power.tiers.examples.serve", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"serving \S+ on http://127.0.0.1:(\d+) ", line)
        assert found, line + process.stderr.read()
        yield Served(int(found[1]), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(generators: Generators) -> Iterator[Served]:
    with served(TEXT, "--tier", generators.small, "--name", NAME, "--drain-seconds", "30") as running:
        yield running


def test_health_names_the_tier(server: Served) -> None:
    for path in ("/health", "/ready"):
        status, said, tier = server.ask("GET", path)
        assert (status, tier) == (200, NAME)
        assert said == {"tier": NAME, "state": "serving", "open_requests": 0}


def test_a_stream_has_all_tokens_and_an_end(server: Served) -> None:
    answer, coming = stream(server.port, "/generate", {"prompt": "The list", "tokens": 12, "seed": 5})
    got = list(coming)
    assert answer.headers[TIER_HEADER] == NAME
    assert [name for name, _ in got] == ["token"] * 12 + ["done"]
    assert [data["index"] for _, data in got[:-1]] == list(range(12))
    assert got[-1][1] == {"tier": NAME, "tokens": 12, "finish": "length"}


def test_what_is_served_is_what_the_model_says(server: Served, generators: Generators) -> None:
    from slurm_power.tiers.building.artifact import load_tier

    model = load_tier(generators.small, manual_text)
    expected = "".join(
        text_pieces(manual_text, tokens_of(model, manual_text, "Names are", Sampling(tokens=20, seed=9)))
    )
    _, coming = stream(server.port, "/generate?prompt=Names+are&tokens=20&seed=9")
    assert "".join(data["text"] for name, data in coming if name == "token") == expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "prompt: a text of 1 to"),
        ({"prompt": ""}, "prompt: a text of 1 to"),
        ({"prompt": "x", "tokens": 0}, "tokens: a whole number from 1 to 4096"),
        ({"prompt": "x", "tokens": 1.5}, "tokens: a whole number"),
        ({"prompt": "x", "temperature": "hot"}, "temperature: a number from 0 to 10"),
        ({"prompt": "x", "temperature": float("inf")}, "temperature: a number from 0 to 10"),
        ({"prompt": "x", "seed": [1]}, "seed: a whole number from 0"),
        ({"prompt": "x", "max_tokens": 3}, "max_tokens: is not known here"),
        ("[", "the body is no JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "the body is no JSON"),
    ],
)
def test_bad_requests_are_told(server: Served, body: object, said: str) -> None:
    status, answer, tier = server.ask("POST", "/generate", body)
    assert (status, answer["error"]["type"], tier) == (400, "bad_request", NAME)
    assert said in answer["error"]["message"]


def test_all_problems_at_once(server: Served) -> None:
    _, answer, _ = server.ask("POST", "/generate", {"tokens": -1, "seed": "a"})
    for name in ("prompt", "tokens", "seed"):
        assert f"{name}: " in answer["error"]["message"]


def test_unknown_paths_and_large_bodies(server: Served) -> None:
    assert server.ask("GET", "/nothing")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/generate")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_client_that_goes_leaves_nothing_behind(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as leaving:
        leaving.sendall(b"GET /generate?prompt=The&tokens=4096 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert leaving.recv(10)
    wait_until(lambda: server.ask("GET", "/health")[1]["open_requests"] == 0)


def test_sigterm_lets_open_streams_come_to_their_end(generators: Generators) -> None:
    with served(TEXT, "--tier", generators.small, "--name", NAME) as running:
        _, coming = stream(running.port, "/generate", {"prompt": "The list", "tokens": 1500})
        assert next(coming)[0] == "token"
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refused(running.port))
        names = [name for name, _ in coming]
        assert names[-1] == "done"
        assert names.count("token") == 1499
        assert running.process.wait(timeout=30) == 0


def test_when_there_is_no_more_time_a_stream_ends_with_an_error_of_a_name(generators: Generators) -> None:
    with served(TEXT, "--tier", generators.small, "--drain-seconds", "0") as running:
        _, coming = stream(running.port, "/generate", {"prompt": "The list", "tokens": 4096})
        assert next(coming)[0] == "token"
        running.process.send_signal(signal.SIGTERM)
        name, data = list(coming)[-1]
        assert (name, data["error"]["type"]) == ("error", "tier_ended")
        assert running.process.wait(timeout=30) == 0


@contextmanager
def serving(task: Task, model: nn.Module, **more: Any) -> Iterator[TierServer]:
    """A server in this process."""
    server = TierServer(("127.0.0.1", 0), task=task, model=model, name=NAME, **more)
    server.open()
    thread = threading.Thread(target=server.run, args=(30.0,))
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


class Held(nn.Module):
    """Waits for a sign, and then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: ARG002 - torch's signature
        self.go.wait(30)
        raise RuntimeError("the GPU has gone")


def test_a_model_that_fails_ends_its_stream_with_an_error_of_a_name() -> None:
    model = Held()
    with serving(ManualText(), model, most_requests=1) as server:
        port = int(server.server_address[1])
        _, coming = stream(port, "/generate", {"prompt": "x"})
        status, said, _ = ask(port, "POST", "/generate", {"prompt": "x"})
        assert (status, said["error"]["type"]) == (503, "unavailable")
        model.go.set()
        assert list(coming) == [("error", {"error": {"type": "model_failed", "message": "the GPU has gone"}})]


def test_items_of_a_task_that_does_not_generate() -> None:
    with serving(signs, weigh(signs.new_model())) as server:
        port = int(server.server_address[1])
        status, said, tier = ask(port, "POST", "/infer", {"items": [[2, 0, 0, 0, 0, 0], [-2, 0, 0, 0, 0, 0]]})
        assert (status, tier) == (200, NAME)
        assert said == {"tier": NAME, "outputs": [[-2.0, 2.0], [2.0, -2.0]], "best": [1, 0]}
        for body, message in (
            ({"items": []}, "items: a list of 1 to"),
            ({"items": ["a"]}, "items: the task's prepare() refuses them"),
            ({"items": [[1] * 6, [1] * 5]}, "items: "),
        ):
            status, said, _ = ask(port, "POST", "/infer", body)
            assert status == 400
            assert message in said["error"]["message"]
        assert ask(port, "POST", "/generate", {"prompt": "x"})[0] == 404


def test_a_tier_of_another_pipeline_or_damaged_is_not_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tier_of(signs, tmp_path / "full")
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words, said in (
            ((f"{tasks.__name__}:scaled", "--tier", folder), "training-serving skew"),
            ((SPEC, "--tier", damaged), "the file is damaged"),
            ((SPEC, "--tier", folder, "--sha256", "0" * 64), "the catalog has"),
            ((SPEC, "--tier", folder, "--port", taken.getsockname()[1]), "Address already in use"),
        ):
            monkeypatch.setattr("sys.argv", ["serve", *map(str, words)])
            assert main() == 2
            printed = capsys.readouterr()
            assert printed.out == ""
            assert said in printed.err


def wait_until(true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(600):
        if true():
            return
        waiting.wait(0.05)
    raise AssertionError("it did not come about in 30 s")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False
