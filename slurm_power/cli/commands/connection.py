"""One request to powerctld's Unix socket, one answer back."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from slurm_power import wire
from slurm_power.cli import plain_conf
from slurm_power.cli.commands.quantities import plain_text

DEFAULT_SOCKET = "/run/slurm-power/powerctld.sock"
TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 16 * wire.MAX_LINE_BYTES

Command = TypeVar("Command", bound=Callable[..., Any])

Answer = dict[str, Any]


class Refusal(click.ClickException):
    """powerctld has understood and does not do it: nothing was changed. The text is its own."""

    exit_code = 2


def socket_option(command: Command) -> Command:
    """Add ``--socket``."""
    return click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path),
        default=None,
        help="powerctld's socket (default: controller_socket in slurm-power.conf).",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def ask(request: wire.Message, socket_path: Path | None, *, peer: str = "powerctld") -> Answer:
    """Send a request; raises Refusal, or click.ClickException if it fails, with a sentence for the user."""
    path = socket_path or Path(
        plain_conf.read_plain(plain_conf.slurm_power_conf()).get("controller_socket") or DEFAULT_SOCKET
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(path))
            connection.sendall(wire.encode(request))
            answer = wire.decode(_read_line(connection))
    except TimeoutError:
        raise click.ClickException(f"{peer} at {path} did not answer in {TIMEOUT_SECONDS:g} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"{peer} does not answer at {path}: {reason}. Is it running? It answers on its own host only."
        ) from None
    except wire.WireError as error:
        raise click.ClickException(f"{peer} at {path} sent no answer of ours: {error}") from None
    if answer.get("ok") is not True:
        if answer.get("error"):
            raise Refusal(plain_text(answer["error"]))
        raise click.ClickException(f"{peer} refused without a reason")
    return answer


def _read_line(connection: socket.socket) -> bytes:
    decoder = wire.LineDecoder(MAX_ANSWER_BYTES)
    while True:
        data = connection.recv(65536)
        if not data:
            raise wire.WireError("it hung up before its answer was complete")
        lines = decoder.feed(data)
        if lines:
            return lines[0]


def ledger_entries(
    socket_path: Path | None, *, since_seconds: float | None = None, job_id: str | None = None
) -> tuple[list[Answer], int | None]:
    """All ledger entries that fit, page by page, and the first broken one of the whole ledger if any."""
    request: wire.Message = {"op": "ledger"}
    if since_seconds is not None:
        request["since_seconds"] = since_seconds
    if job_id is not None:
        request["job_id"] = job_id
    entries: list[Answer] = []
    while True:
        answer = ask(request, socket_path)
        entries += answer["entries"]
        if not answer.get("more") or not answer["entries"]:
            return entries, answer.get("broken_at_sequence")
        request["after_sequence"] = entries[-1]["sequence"]


def printable(value: Any) -> Any:
    """An answer for people: what users and nodes have named cannot move the terminal's cursor."""
    match value:
        case dict():
            return {plain_text(key): printable(item) for key, item in value.items()}
        case list():
            return [printable(item) for item in value]
        case str():
            return plain_text(value)
        case _:
            return value


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2))
