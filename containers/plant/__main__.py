"""``python -m containers.plant run RUN``: the simulated plant of a lab, in the foreground.

Exit status: 0 after SIGTERM or SIGINT, 1 when something in the plant broke, 2 when it was told nonsense.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from containers.plant.control import answering
from containers.plant.plant import run_plant
from containers.plant.scenario import load_scenario
from containers.plant.targets import known_kinds
from containers.plant.testbed import Testbed, TestbedError, read_testbed
from slurm_power.config.problems import ConfigError
from slurm_power.simulate.constants import load_constants

PLANT_FILE = Path(__file__).with_name("plant.toml")


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m containers.plant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the plant of a lab until SIGTERM")
    run.add_argument("run_directory", type=Path, metavar="RUN")
    run.add_argument("--plant", type=Path, default=PLANT_FILE, help="the constants (default: %(default)s)")
    run.add_argument("--scenario", type=Path, help="what happens at which second")
    run.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="[FRONT=]ADDRESS",
        help="where to listen; FRONT is meter, pcs or pdu.RACK, without it all (default: 127.0.0.1)",
    )
    arguments = parser.parse_args()
    try:
        testbed = read_testbed(arguments.run_directory.resolve())
        hosts = _hosts(arguments.bind, testbed)
        constants = load_constants(arguments.plant)
        scenario = load_scenario(arguments.scenario, known_kinds(testbed)) if arguments.scenario else ()
    except (ConfigError, TestbedError) as error:
        print(error, file=sys.stderr)
        return 2
    socket_path = testbed.run_directory / "run" / "plant.sock"
    if answering(socket_path):
        print(f"{socket_path}: another plant serves this lab", file=sys.stderr)
        return 2
    # The jobs' load programs draw by the same constants.
    beside_states = testbed.run_directory / "nvml" / PLANT_FILE.name
    beside_states.parent.mkdir(exist_ok=True)
    beside_states.write_text(arguments.plant.read_text())
    # pysnmp keeps its agents' boot counters in the temporary folder: a lab leaves nothing outside its own.
    tempfile.tempdir = str(testbed.run_directory / "run")
    return asyncio.run(run_plant(testbed, constants, scenario, hosts))


def _hosts(given: list[str], testbed: Testbed) -> dict[str, str]:
    """Turn the --bind options into front -> address; ``*`` stands for the others."""
    hosts = {"*": "127.0.0.1"}
    known = {"meter", "pcs", *(f"pdu.{rack}" for rack in testbed.racks)}
    for word in given:
        front, separator, address = word.rpartition("=")
        if separator and front not in known:
            raise TestbedError(f"--bind {word}: the fronts are {', '.join(sorted(known))}")
        hosts[front if separator else "*"] = address
    return hosts


if __name__ == "__main__":
    sys.exit(main())
