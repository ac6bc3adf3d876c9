"""Tiers as plain processes in place of Slurm's jobs, for loads on the gateway; the same gateway otherwise.

``python -m containers.bench.tier_processes SERVICE.toml FOLDER [CONTROLLER_SOCKET]`` runs one gateway. A
tier's ``environment`` says how its server behaves: TIER_MILLISECONDS and those of ``tier_server``.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from slurm_power.gateway.backends import JobSight
from slurm_power.gateway.members import JobSeen
from slurm_power.gateway.running import run
from slurm_power.gateway.service_file import ServiceFile, read_service


class TierProcesses:
    """Servers that outlive the gateway as jobs do, with a file for each in the service's directory."""

    def __init__(self, service: ServiceFile) -> None:
        self._service = service

    async def look(self, tiers_by_key: Mapping[str, str]) -> dict[str, JobSight]:
        """Those that run."""
        found = {}
        for key in tiers_by_key:
            number = self.process(key)
            if number is None:
                continue
            with contextlib.suppress(OSError):
                address = (self._service.directory / f"{key}.address").read_text().strip()
                found[key] = JobSight(job_id=str(number), seen=JobSeen.RUNNING, address=address)
                continue
            found[key] = JobSight(job_id=str(number), seen=JobSeen.RUNNING)
        return found

    def process(self, key: str) -> int | None:
        """The process of a key, None where it has ended."""
        try:
            number = int((self._service.directory / f"{key}.pid").read_text())
            with contextlib.suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)
            words = Path(f"/proc/{number}/cmdline").read_bytes()
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        # For a moment after its start a process has no words yet, as one that has ended.
        ours = f"{key}.address".encode() in words or (not words and state not in {"Z", "X"})
        return number if ours else None

    async def submit(self, key: str, tier: str) -> str:
        """Start one, apart from us."""
        job = self._service.job_of(tier)
        if job is None:
            return f"there is no tier {tier}"
        words = [sys.executable, "-m", "containers.bench.tier_server", tier]
        words += [
            job.environment.get("TIER_MILLISECONDS", "5"),
            str(self._service.directory / f"{key}.address"),
        ]
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            words,
            env={**os.environ, **job.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        (self._service.directory / f"{key}.pid").write_text(str(process.pid))
        return ""

    async def end(self, job_id: str, *, hard: bool) -> None:
        """SIGTERM, or SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(job_id), signal.SIGKILL if hard else signal.SIGTERM)


def main() -> None:
    """Run a gateway over processes."""
    logging.basicConfig(level=logging.INFO, format="%(created).3f %(message)s")
    service = read_service(Path(sys.argv[1]))
    controller = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    asyncio.run(run(service, TierProcesses(service), Path(sys.argv[2]), controller_socket=controller))


if __name__ == "__main__":
    main()
