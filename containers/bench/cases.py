"""The command line of a measurement that is made of cases, each on the same lab."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from containers.bench.figure import Figure, markdown
from containers.cluster.layout import LabError

Case = TypeVar("Case")


def run_cases(
    prog: str,
    description: str | None,
    cases: Sequence[Case],
    measured: Callable[[Sequence[Case]], list[Figure]],
) -> tuple[int, list[Figure]]:
    """Measure all cases, or the one that is asked for, and print a table or JSON.

    Returns an exit status, 0 or that of a lab which cannot be built, and the figures.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--case", type=int, choices=range(len(cases)), help="measure one case alone")
    parser.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    arguments = parser.parse_args()
    try:
        figures = measured(cases if arguments.case is None else cases[arguments.case : arguments.case + 1])
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.exit_status, []
    print(json.dumps([asdict(one) for one in figures], indent=1) if arguments.json else markdown(figures))
    return 0, figures
