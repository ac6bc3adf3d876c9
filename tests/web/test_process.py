"""powerweb as a process: its start with bad input, its end by SIGTERM, HTTPS with the site's certificate."""

import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.web.bed import Bed, free_port, until

COMMAND = [sys.executable, "-m", "slurm_power.cli.powerweb"]


def started(file: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([*COMMAND, "--config", str(file)], stderr=subprocess.PIPE, text=True)


def other_site(bed: Bed, name: str, old: str, new: str) -> tuple[Path, int]:
    """The bed's site.toml for a powerweb of another port."""
    port = free_port()
    text = bed.file.read_text().replace(f'"127.0.0.1:{bed.port}"', f'"127.0.0.1:{port}"')
    assert old in text
    file = bed.folder / name
    file.write_text(text.replace(old, new))
    return file, port


def test_it_serves_over_tls_and_ends_cleanly_when_asked(bed: Bed) -> None:
    file, port = other_site(bed, "tls.toml", "calls_per_second", 'tls = "site"\ncalls_per_second')
    process = started(file)
    try:
        trust = ssl.create_default_context(cafile=str(bed.folder / "tls" / "ca.pem"))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=15.0) as client:

            def answers() -> bool:
                try:
                    return bool(client.get("/api/v1/healthz").json()["powerctld"])
                except httpx.TransportError:
                    return False

            until(answers, "powerweb answers over TLS", 20.0)
            health = client.get("/api/v1/healthz")
            assert health.headers["strict-transport-security"]
            with client.stream("GET", "/api/v1/stream", headers={"Cookie": ""}) as answer:
                assert answer.status_code == 401
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20.0)
        assert process.returncode == 0
        assert "Traceback" not in said, said
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "calls_per_second",
            "session_hours = 0\nmost_clients = 0\ncalls_per_second",
            ["web.session_hours", "web.most_clients"],
        ),
        ('tls_directory = "', 'tls_directory = "/nowhere', ["web.tls"]),
    ],
)
def test_bad_input_ends_it_with_status_2_and_all_problems(
    bed: Bed, old: str, new: str, words: list[str]
) -> None:
    file, _ = other_site(bed, "bad.toml", old, new)
    if words == ["web.tls"]:
        file.write_text(file.read_text().replace("calls_per_second", 'tls = "site"\ncalls_per_second'))
    done = subprocess.run(
        [*COMMAND, "--config", str(file)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_is_taken_is_told(bed: Bed) -> None:
    done = subprocess.run(
        [*COMMAND, "--config", str(bed.file)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "web.listen" in done.stderr) == (2, True)
