"""Print what pyproject.toml asks for, one requirement a line: ``requirements.py PYPROJECT [EXTRA]``.

So an image layer with the dependencies stays valid while only the package's own code changes.
"""

import re
import sys
import tomllib
from pathlib import Path


def requirements(project: dict[str, object], extra: str | None) -> list[str]:
    """List the dependencies, with those of an extra and of the extras it names in turn; raises KeyError."""
    found = [str(line) for line in _lines(project["dependencies"])]
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    wanted = [] if extra is None else [extra]
    for name in wanted:
        for line in _lines(extras[name]):
            own = re.fullmatch(rf"{project['name']}\[(.*)\]", line)
            if own:
                wanted += own[1].split(",")
            else:
                found.append(line)
    return found


def _lines(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(line) for line in value]


if __name__ == "__main__":
    document = tomllib.loads(Path(sys.argv[1]).read_text())
    print("\n".join(requirements(document["project"], sys.argv[2] if len(sys.argv) > 2 else None)))
