"""The life of a gateway process: its folder and lock, its signals, its socket, and a clean end."""

import asyncio
import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from slurm_power import systemd
from slurm_power.gateway.backends import Backends
from slurm_power.gateway.daemon import Gateway
from slurm_power.gateway.desk import Desk
from slurm_power.gateway.haproxy import HaproxyError
from slurm_power.gateway.haproxy_config import Folder
from slurm_power.gateway.service_file import ServiceFile
from slurm_power.gateway.state_file import FolderError, open_folder

# A Unix socket's path holds 107 bytes, and HAProxy binds under a longer name first.
MOST_FOLDER_CHARACTERS = 70
_PLAIN = re.compile(r"[A-Za-z0-9/._@+-]+")

log = logging.getLogger(__name__)


def own_folder(service: str, named: Path | None) -> Path:
    """Where a service's gateway keeps its own; raises FolderError where its sockets would not fit."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    path = named or base / "slurm-power" / "gateway" / service
    if len(str(path.absolute())) > MOST_FOLDER_CHARACTERS:
        raise FolderError(
            f"{path}: too long for the sockets in it (at most {MOST_FOLDER_CHARACTERS} characters);"
            " name a shorter one with --state"
        )
    if not _PLAIN.fullmatch(str(path.absolute())):
        raise FolderError(
            f"{path}: has characters that HAProxy's configuration cannot; name another with --state"
        )
    return path.absolute()


async def run(
    service: ServiceFile, backends: Backends, path: Path, *, controller_socket: Path | None
) -> None:
    """Run until SIGTERM or SIGINT; jobs and HAProxy go on without us. Raises FolderError."""
    lock = open_folder(path)
    folder = Folder(path=path)
    try:
        gateway = Gateway(service, backends, folder, controller_socket=controller_socket)
        desk = Desk(gateway, service, folder)
        work = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _cancel(work))
        replacing: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGHUP, lambda: replacing.add(loop.create_task(_replace(gateway))))
        await desk.start()
        systemd.notify("READY=1")
        try:
            await gateway.run()
        except asyncio.CancelledError:
            log.info("ends; HAProxy and the jobs go on, the next gateway takes them over")
        finally:
            await desk.stop()
    finally:
        os.close(lock)


def _cancel(task: "asyncio.Task[None] | None") -> Callable[[], None]:
    def cancel() -> None:
        if task is not None:
            task.cancel()

    return cancel


async def _replace(gateway: Gateway) -> None:
    """On SIGHUP: another HAProxy takes over, such as after an update of its package."""
    try:
        await gateway.replace_haproxy()
    except (HaproxyError, OSError, TimeoutError) as error:
        log.warning("HAProxy is not replaced: %s", error)
