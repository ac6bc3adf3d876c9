"""``python -m containers.versions [VERSION...]``: make the root directories that are missing; name them."""

import argparse
import os
import sys
from pathlib import Path

from containers.versions.roots import (
    DIRECTORY_VARIABLE,
    RELEASES,
    MovedOnError,
    RootError,
    directory,
    root_of,
)


def main(arguments: list[str] | None = None) -> int:
    """Make roots; 0 if all are there, 1 if one cannot be made, 3 if a release has another Slurm by now."""
    parser = argparse.ArgumentParser(prog="python -m containers.versions", description=__doc__)
    parser.add_argument(
        "versions", nargs="*", metavar="VERSION", help=f"of {', '.join(RELEASES)}; default: all"
    )
    parser.add_argument("--dir", type=Path, default=directory(), help="where roots are kept (%(default)s)")
    options = parser.parse_args(arguments)
    os.environ[DIRECTORY_VARIABLE] = str(options.dir)
    statuses = set()
    for version in options.versions or RELEASES:
        try:
            print(f"{version} {root_of(version, say=lambda text: print(text, file=sys.stderr))}", flush=True)
        except RootError as error:
            print(f"{version}: {error}", file=sys.stderr)
            statuses.add(3 if isinstance(error, MovedOnError) else 1)
    return min(statuses, default=0)


if __name__ == "__main__":
    sys.exit(main())
