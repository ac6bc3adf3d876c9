"""Invocations made from the table of options: long, short, abbreviated, in a script, from a variable."""

from collections.abc import Iterator, Sequence

from tests.compat.case import SCRIPT, Case, held_script
from tests.compat.options import ELSEWHERE, OPTIONS, Option

FILES = {
    "job.sh": SCRIPT,
    "environment.file": b"FRESH=1\0SECOND=two words\0",
    "nodes.txt": b"c1\n",
}
ARGUMENTS = ("job.sh", "one", "--nodes=7")
NAMES = sorted({option.name for option in OPTIONS} | set(ELSEWHERE))


def abbreviation(name: str) -> str:
    """Return the shortest beginning that no other name has, of two letters or more; the name if none is."""
    for length in range(2, len(name)):
        if [known for known in NAMES if known.startswith(name[:length])] == [name]:
            return name[:length]
    return name


def cases() -> Iterator[Case]:
    """Make all of them."""
    for option in OPTIONS:
        makers = {"value": _with_value, "optional": _with_optional, "nothing": _without}
        yield from makers[option.takes](option)


def _case(name: str, *words: str, **fields: object) -> Case:
    return Case(name=name, words=words, files=FILES, **fields)  # type: ignore[arg-type]  # fields of Case


def _with_value(option: Option) -> Iterator[Case]:
    name, short, good = option.name, option.short, option.good
    for value in (*good, *option.bad[:1]):
        yield _case(f"{name}={value}", f"--{name}={value}", *ARGUMENTS)
    for value in good[:1]:
        brief = abbreviation(name)
        yield _case(f"--{brief} for {name}, separate", f"--{brief}", value, *ARGUMENTS)
        if short:
            yield _case(f"-{short} glued", f"-{short}{value}", *ARGUMENTS)
            yield _case(f"-{short} separate", f"-{short}", value, *ARGUMENTS)
    yield _case(f"{name} without its value", f"--{name}")
    yield from _in_script(option)
    yield from _from_variable(option, good[:1] or option.bad[:1])


def _with_optional(option: Option) -> Iterator[Case]:
    name = option.name
    yield _case(f"{name} alone", f"--{name}", *ARGUMENTS)
    yield _case(f"--{abbreviation(name)} for {name}", f"--{abbreviation(name)}", *ARGUMENTS)
    for value in (*option.good, *option.bad):
        yield _case(f"{name}={value}", f"--{name}={value}", *ARGUMENTS)
    if option.short:
        yield _case(f"-{option.short} alone", f"-{option.short}", *ARGUMENTS)
        for value in option.good[:1]:
            yield _case(f"-{option.short} glued", f"-{option.short}{value}", *ARGUMENTS)
    yield from _in_script(option)
    yield from _from_variable(option, [*option.good[:1], ""])


def _without(option: Option) -> Iterator[Case]:
    name = option.name
    yield _case(f"{name} alone", f"--{name}", *ARGUMENTS)
    yield _case(f"--{abbreviation(name)} for {name}", f"--{abbreviation(name)}", *ARGUMENTS)
    yield _case(f"{name} with a value", f"--{name}=x", *ARGUMENTS)
    if option.short:
        yield _case(f"-{option.short} alone", f"-{option.short}", *ARGUMENTS)
    yield from _in_script(option)
    yield from _from_variable(option, ["1"])


def _in_script(option: Option) -> Iterator[Case]:
    """The option on an #SBATCH line: the short form in a script on input, else the long one in a file."""
    value = option.good[0] if option.good else ""
    quoted = f'"{value}"' if " " in value else value
    if option.short:
        line = f"#SBATCH -{option.short} {quoted}".rstrip()
        yield _case(f"#SBATCH -{option.short}", held=False, stdin=held_script(line))
    else:
        line = f"#SBATCH --{option.name}" + (f"={quoted}" if quoted else "")
        files = {**FILES, "job.sh": held_script(line)}
        yield Case(name=f"#SBATCH --{option.name}", words=ARGUMENTS, held=False, files=files)


def _from_variable(option: Option, values: Sequence[str]) -> Iterator[Case]:
    if option.variable:
        for value in values:
            yield _case(f"{option.variable}={value}", *ARGUMENTS, environment={option.variable: value})
