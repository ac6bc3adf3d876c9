"""``python -m containers.cluster``: build, use and end labs."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from containers.cluster import lifecycle
from containers.cluster.lab import find, running_labs
from containers.cluster.layout import LabError, Options, RefusedError, venv_programs


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status: 2 for a refusal that changed nothing, 1 for a failure."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.handler(options)
    except LabError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return error.exit_status
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m containers.cluster", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--dir", type=Path, help="the lab's run directory (not needed while only one runs)")

    add = commands.add_parser("up", help="build a lab and leave it running")
    add.set_defaults(handler=_up)
    add.add_argument(
        "--dir", type=Path, help="run directory to make (default: a new one under the temporary folder)"
    )
    add.add_argument("--nodes", type=int, default=4)
    add.add_argument("--gpus", type=int, default=8, help="GPUs per node")
    add.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
    add.add_argument(
        "--power", action="store_true", help="with the simulated plant and slurm-power's daemons"
    )
    add.add_argument("--scenario", help="scenario file for the plant")
    add.add_argument("--plant", help="plant.toml in place of the plant's own")
    add.add_argument(
        "--grid-limit-watts",
        type=int,
        default=Options().grid_limit_watts,
        help="contracted limit in site.toml",
    )
    add.add_argument(
        "--no-control", dest="control", action="store_false", help="let powerctld look and touch nothing"
    )
    add.add_argument(
        "--energy-accounting",
        action="store_true",
        help="let Slurm count each job's energy (ConsumedEnergy in sacct); needs --power and --accounting",
    )
    add.add_argument(
        "--slurm-root", help="directory with another Slurm (python -m containers.versions makes some)"
    )
    # With --power the dashboard comes along.
    add.add_argument("--no-web", dest="web", action="store_false", help=argparse.SUPPRESS)
    add.add_argument("--yes", action="store_true", help="also on a host that has a Slurm of its own")
    add.add_argument("--host-root", type=Path, default=Path("/"), help=argparse.SUPPRESS)

    add = commands.add_parser("down", help="end labs and remove their directories", parents=[where])
    add.set_defaults(handler=_down)
    add.add_argument("--all", action="store_true", help="every running lab")
    add.add_argument("--keep", action="store_true", help="leave the directory with its logs")

    commands.add_parser("list", help="show the running labs").set_defaults(handler=_list)
    commands.add_parser("status", help="show a lab's daemons", parents=[where]).set_defaults(handler=_status)

    add = commands.add_parser("exec", help="run a command inside a lab", parents=[where])
    add.set_defaults(handler=_exec)
    add.add_argument("--user", default="root")
    add.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...")

    for name, text in (("start", "start a daemon"), ("stop", "end it"), ("restart", "end and start it")):
        add = commands.add_parser(name, help=f"{text} by name", parents=[where])
        add.set_defaults(handler=_control, action=name)
        add.add_argument("name")
    add = commands.add_parser("kill", help="send a daemon a signal", parents=[where])
    add.set_defaults(handler=_control, action="kill")
    add.add_argument("name")
    add.add_argument("--signal", default="KILL", type=_signal_number)
    return parser


def _signal_number(name: str) -> int:
    try:
        return int(name) if name.isdigit() else signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"].value
    except KeyError as error:
        raise argparse.ArgumentTypeError(f"no signal {name!r}") from error


def _up(options: argparse.Namespace) -> int:
    wanted = Options(
        nodes=options.nodes,
        gpus_per_node=options.gpus,
        accounting=options.accounting,
        power=options.power,
        scenario=options.scenario,
        plant=options.plant,
        grid_limit_watts=options.grid_limit_watts,
        control=options.control,
        energy_accounting=options.energy_accounting,
        slurm_root=options.slurm_root,
        web=options.web and options.power,
    )
    # A terminal's end or a stop request must remove a half-built lab, as Control-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        started = lifecycle.up(
            wanted,
            directory=options.dir,
            host_root=None if options.yes else options.host_root,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except KeyboardInterrupt:
        print("cluster: interrupted, nothing is left", file=sys.stderr)
        return 130
    lab = started.lab
    started.detach()
    if wanted.web:
        try:
            print(f"dashboard, for a minute from now: {lab.login_link()}", file=sys.stderr)
        except LabError as error:
            print(f"no link to the dashboard: {error}", file=sys.stderr)
        print("another link: slurm-power web login", file=sys.stderr)
    print(lab.run_directory)
    print(f"export SLURM_CONF={lab.layout.slurm_conf}")
    print(f"export PATH={lab.run_directory}/bin:{venv_programs()}:$PATH")
    return 0


def _down(options: argparse.Namespace) -> int:
    if options.all and options.dir is not None:
        raise LabError("give either --dir or --all")
    labs = sorted(running_labs())
    if options.dir is not None:
        labs = [options.dir]
    elif not options.all and len(labs) > 1:
        raise LabError(f"several labs run, choose with --dir or take --all: {', '.join(map(str, labs))}")
    for run in labs:
        lifecycle.down(run, keep=options.keep)
    return 0


def _list(_options: argparse.Namespace) -> int:
    for run in sorted(running_labs()):
        print(run)
    return 0


def _status(options: argparse.Namespace) -> int:
    lab = find(options.dir)
    print(lab.run_directory)
    states = lab.status()
    for name in lab.daemon_names:
        state = states.get(name)
        if state is None:
            text = "not started"
        elif state["status"] is None:
            text = f"running as process {state['pid']}, start {state['starts']}"
        else:
            text = f"ended with status {state['status']}"
        print(f"  {name:12} {text}")
    print(f"  {lab.idle_nodes()} of {lab.layout.options.nodes} nodes idle")
    return 0


def _exec(options: argparse.Namespace) -> NoReturn:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise RefusedError("exec needs a command")
    line, environment = find(options.dir).command(words, user=options.user)
    os.execvpe(line[0], line, environment)  # noqa: S606 - the command is the user's own


def _control(options: argparse.Namespace) -> int:
    lab = find(options.dir)
    match options.action:
        case "start":
            lab.start(options.name)
        case "stop":
            lab.stop(options.name)
        case "restart":
            lab.restart(options.name)
        case _:
            lab.kill(options.name, options.signal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
