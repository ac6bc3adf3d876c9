"""``python -m containers.demo``: the main job end to end; status 0 only if all went as promised."""

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from containers.cluster.layout import LabError
from containers.demo import account
from containers.demo.play import Play
from containers.demo.show import watcher
from containers.demo.stage import ProcessStage
from containers.demo.story import GRID_LIMIT_WATTS

SCENARIO = Path(__file__).with_name("scenario.toml")


def main() -> int:
    """Play the demo; returns 0 if the limit was held, all jobs finished and everything is back."""
    parser = argparse.ArgumentParser(prog="python -m containers.demo", description=__doc__)
    parser.add_argument(
        "--report", type=Path, default=Path("demo-report.html"), help="the HTML file to write"
    )
    parser.add_argument("--scenario", type=Path, default=SCENARIO, help="what the plant does meanwhile")
    parser.add_argument(
        "--no-control",
        dest="control",
        action="store_false",
        help="look and touch nothing: the limit breaks, and the demo says so with status 1",
    )
    parser.add_argument("--yes", action="store_true", help="also on a host that has a Slurm of its own")
    parser.add_argument("--no-web", dest="web", action="store_false", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    began = time.monotonic()
    try:
        stage = ProcessStage(
            grid_limit_watts=GRID_LIMIT_WATTS,
            control=arguments.control,
            scenario=arguments.scenario,
            host_check=not arguments.yes,
            web=arguments.web,
        )
    except LabError as error:
        console.print(f"demo: {error}", style="red")
        return error.exit_status
    try:
        console.print(f"cluster and plant are up after {time.monotonic() - began:.0f} s")
        if arguments.web:
            console.print(f"dashboard, for a minute from now: {stage.lab.login_link()}", soft_wrap=True)
        with watcher(console) as watch:
            course = Play(stage, watch).perform()
        data, good = account.settle(course, stage, arguments.report)
        account.tell(data, console, arguments.report)
    except KeyboardInterrupt:
        console.print("demo: interrupted")
        return 130
    finally:
        stage.end()
    console.print(f"{time.monotonic() - began:.0f} s in all")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
