"""Slurm's compact node lists: ``c[1-3,7],gpu[01-02]n[1-2]`` into names, in Slurm's order, and back."""

import itertools
import re
from collections.abc import Iterable, Iterator

MAX_NAMES = 1_000_000

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand(hostlist: str) -> tuple[str, ...]:
    """Return all names, in order; raises ValueError for text that is no node list."""
    names: list[str] = []
    for element in _elements(hostlist):
        for name in _expand_element(element):
            names.append(name)
            if len(names) > MAX_NAMES:
                raise ValueError(f"node list with more than {MAX_NAMES} names")
    return tuple(names)


def compress(names: Iterable[str]) -> str:
    """Return names as a compact list, sorted; runs of the last number in a name are folded."""
    plain: set[str] = set()
    numbered: dict[tuple[str, int], set[int]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)(\d{1,9})", name)
        if match is None:
            plain.add(name)
        else:
            numbered.setdefault((match[1], len(match[2])), set()).add(int(match[2]))
    return ",".join([*sorted(plain), *(_folded(*key, found) for key, found in sorted(numbered.items()))])


def _folded(prefix: str, width: int, numbers: set[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [
        f"{first:0{width}d}" if first == last else f"{first:0{width}d}-{last:0{width}d}"
        for first, last in runs
    ]
    return f"{prefix}{parts[0]}" if len(numbers) == 1 else f"{prefix}[{','.join(parts)}]"


def _elements(hostlist: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    depth, start = 0, 0
    for position, character in enumerate(hostlist):
        if character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
        elif character == "," and depth == 0:
            yield hostlist[start:position]
            start = position + 1
        if depth not in (0, 1):
            raise ValueError(f"brackets do not match in node list {hostlist!r}")
    if depth:
        raise ValueError(f"brackets do not match in node list {hostlist!r}")
    if hostlist[start:]:
        yield hostlist[start:]


def _expand_element(element: str) -> Iterator[str]:
    """Expand one element; the last bracket runs fastest, as in ``scontrol show hostnames``."""
    parts = re.split(r"\[([^\]]*)\]", element)
    if not element or any(not part for part in parts[1::2]):
        raise ValueError(f"empty part in node list: {element!r}")
    choices: list[list[str]] = [
        list(_numbers(part)) if index % 2 else [part] for index, part in enumerate(parts)
    ]
    return ("".join(choice) for choice in itertools.product(*choices))


def _numbers(ranges: str) -> Iterator[str]:
    for text in ranges.split(","):
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no range of node numbers")
        first, last = match[1], match[2] or match[1]
        low, high = int(first), int(last)
        if not low <= high <= low + MAX_NAMES:
            raise ValueError(f"{text!r} is no range of node numbers")
        width = len(first)
        yield from (f"{number:0{width}d}" for number in range(low, high + 1))
