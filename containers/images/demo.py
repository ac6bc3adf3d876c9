"""``python -m containers.images.demo``: the demo on the lab in containers, which run-demo.sh brings up."""

import argparse
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from containers.demo import account
from containers.demo.play import Play
from containers.demo.show import watcher
from containers.images.stage import ContainerStage, StageError


def main() -> int:
    """Play the demo; returns 0 if the limit was held, all jobs finished and everything is back."""
    parser = argparse.ArgumentParser(prog="python -m containers.images.demo", description=__doc__)
    parser.add_argument("--engine", required=True, help="the engine's client: docker or podman")
    parser.add_argument("--container", required=True, help="the controller's container")
    parser.add_argument(
        "--report", type=Path, default=Path("demo-report.html"), help="the HTML file to write"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    began = time.monotonic()
    stage = ContainerStage(arguments.engine, arguments.container)
    try:
        with watcher(console) as watch:
            course = Play(stage, watch).perform()
        data, good = account.settle(course, stage, arguments.report)
        account.tell(data, console, arguments.report)
    except StageError as error:
        console.print(f"demo: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        console.print("demo: interrupted")
        return 130
    finally:
        stage.end()
    console.print(f"the demo took {time.monotonic() - began:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
