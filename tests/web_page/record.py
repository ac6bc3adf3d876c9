"""``python -m tests.web_page.record LAB OUT``: write down what a lab answers, for the tests of the page.

LAB is the lab's directory; OUT gets a JSON file for each path of the interface.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from containers.demo.stage import ask
from slurm_power.config import load_site
from slurm_power.web.stored import Stored

_MOST_ENTRIES = 60


def answers(lab: Path) -> dict[str, Any]:
    """Ask powerctld what the page asks powerweb, and read the series as powerweb does."""
    socket = lab / "run" / "powerctld.sock"
    live = ask(socket, {"op": "live"})
    jobs = sorted(live["jobs"], key=lambda job: job["cap_watts"] is None)
    ledger = ask(socket, {"op": "ledger", "since_seconds": 3600.0})
    job_id = jobs[0]["job_id"]
    why = ask(socket, {"op": "ledger", "since_seconds": 3600.0, "job_id": job_id})
    return {
        "live": {key: value for key, value in live.items() if key != "ok"},
        "forecast": ask(socket, {"op": "forecast"}),
        "events": ask(socket, {"op": "events"}),
        "ledger": {**ledger, "entries": ledger["entries"][-_MOST_ENTRIES:]},
        "history": asyncio.run(_history(lab)),
        "why": {
            "job_id": job_id,
            "job": ask(socket, {"op": "job", "job_id": job_id})["record"],
            "entries": why["entries"],
            "more": False,
        },
    }


async def _history(lab: Path) -> dict[str, Any]:
    stored = Stored(load_site(lab / "etc" / "site.toml"))
    try:
        return await stored.history("grid", 3600.0)
    finally:
        stored.close()


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(prog="python -m tests.web_page.record", description=__doc__)
    parser.add_argument("lab", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, answer in answers(arguments.lab).items():
        (arguments.out / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
