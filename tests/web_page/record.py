"""``python -m tests.web_page.record LAB OUT``: write down what a lab answers, for the tests of the page.

LAB is the lab's directory; OUT gets a JSON file for each path of the interface.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from containers.demo.stage import ask

_MOST_ENTRIES = 60


def answers(socket: Path) -> dict[str, Any]:
    """Ask powerctld what the page asks powerweb; history and savings are powerweb's own."""
    live = ask(socket, {"op": "live"})
    touched = [job["job_id"] for job in live["jobs"] if job["cap_watts"] is not None]
    ledger = ask(socket, {"op": "ledger", "since_seconds": 3600.0})
    return {
        "live": {key: value for key, value in live.items() if key != "ok"},
        "forecast": ask(socket, {"op": "forecast"}),
        "events": ask(socket, {"op": "events"}),
        "ledger": {**ledger, "entries": ledger["entries"][-_MOST_ENTRIES:]},
        "why": ask(socket, {"op": "job", "job_id": touched[0] if touched else live["jobs"][0]["job_id"]}),
    }


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(prog="python -m tests.web_page.record", description=__doc__)
    parser.add_argument("lab", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, answer in answers(arguments.lab / "run" / "powerctld.sock").items():
        (arguments.out / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
