"""The HAProxy of a gateway: started apart from us, so that it serves on when we end, and found again."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from slurm_power.gateway.haproxy import Haproxy, HaproxyError
from slurm_power.gateway.haproxy_config import Folder

START_SECONDS = 5.0
HUNG_SECONDS = 10.0


class HaproxyProcess:
    """Starts, finds, replaces and watches the HAProxy whose configuration lies in ``folder``."""

    def __init__(self, folder: Folder, program: str = "haproxy") -> None:
        self._folder = folder
        self._program = program
        self._watched: tuple[int, int] | None = None
        self._ended: Callable[[], None] | None = None

    @property
    def found(self) -> int | None:
        """The process id of a HAProxy of ours that runs, None where none does."""
        try:
            number = int(self._folder.pid.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return number if self._ours(number) else None

    def former(self) -> int:
        """How many processes that were replaced still finish their streams."""
        present = self.found
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
        return sum(number != present and self._ours(number) for number in numbers)

    def program(self) -> str:
        """Where HAProxy is; raises HaproxyError with the fix."""
        found = shutil.which(self._program) or shutil.which(self._program, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise HaproxyError(f"there is no {self._program}: apt-get install haproxy")
        return found

    async def check(self, config: Path) -> None:
        """Let HAProxy check a configuration; raises HaproxyError with its words."""
        process = await asyncio.create_subprocess_exec(
            self.program(),
            "-c",
            "-f",
            str(config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        if process.returncode:
            raise HaproxyError(f"HAProxy refuses {config}: {printed.decode(errors='replace').strip()}")

    async def start(self) -> None:
        """Start HAProxy, in place of one that runs: it hands over its listeners and finishes its streams.

        Raises HaproxyError if the new one does not answer; the old one then still serves.
        """
        before = self.found
        words = [self.program(), "-D", "-p", str(self._folder.pid), "-f", str(self._folder.config)]
        if before is not None:
            words += ["-x", str(self._folder.admin_socket), "-sf", str(before)]
        with self._folder.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            status = await process.wait()  # it goes to the background once it listens
        if status:
            raise HaproxyError(f"HAProxy does not start, see {self._folder.log}")
        client = Haproxy(self._folder.admin_socket)
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(HaproxyError):
                    if await client.process_id() == self.found:
                        return
                await asyncio.sleep(0.02)

    def end_hung(self) -> None:
        """Kill a HAProxy that runs and does not answer."""
        number = self.found
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def stop(self) -> None:
        """End HAProxy softly: it finishes what it has."""
        number = self.found
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGUSR1)

    def watch(self, ended: Callable[[], None]) -> None:
        """Have ``ended`` called as soon as the present process ends; again after each start."""
        number = self.found
        if number is None or (self._watched is not None and self._watched[0] == number):
            return
        self.unwatch()
        try:
            descriptor = os.pidfd_open(number)
        except OSError:
            ended()
            return
        self._watched = (number, descriptor)
        self._ended = ended
        asyncio.get_running_loop().add_reader(descriptor, self._on_end)

    def unwatch(self) -> None:
        """Watch no longer."""
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched[1])
            os.close(self._watched[1])
            self._watched = None

    def _on_end(self) -> None:
        self.unwatch()
        if self._ended is not None:
            self._ended()

    def _ours(self, number: int) -> bool:
        """Whether a process is a HAProxy with our configuration: numbers are used again."""
        try:
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return False
        return str(self._folder.config).encode() in words and state not in {"Z", "X"}
