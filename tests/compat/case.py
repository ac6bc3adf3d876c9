"""One invocation of sbatch as data: words, files, input, environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Word = str | bytes

SCRIPT = b"#!/bin/sh\nexit 0\n"
# Stands for the number of a held job that every group has, in words and scripts.
ANCHOR = "{anchor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is typed after ``sbatch``, and around it.

    ``--hold`` goes before the words unless ``held`` is False: then the job is held by its script, or it is
    never made. ``files`` are written into the case's own folder, where the command runs; ``modes`` are their
    permissions. ``environment`` adds to a plain one; None takes a variable away. ``through`` is a shell line
    that starts the command as ``"$@"``. ``folder`` is the folder's own name. ``adds_before`` marks
    information (``--help``) where psbatch says something of its own first. ``differs`` is the reason why a
    case is known to fail.
    """

    name: str
    words: tuple[Word, ...] = ()
    held: bool = True
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=lambda: {"job.sh": SCRIPT})
    modes: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, Word | None] = field(default_factory=dict)
    through: str = ""
    folder: Word = "work"
    user: str = "alice"
    adds_before: bool = False
    differs: str = ""

    def command(self, program: str, anchor: int) -> list[bytes]:
        """Return the whole command line for ``sbatch`` or ``psbatch``."""
        words = [program, *(["--hold"] if self.held else []), *self.words]
        if self.through:
            words = ["sh", "-c", self.through, "sh", *words]
        return [_bytes(word).replace(ANCHOR.encode(), b"%d" % anchor) for word in words]


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else word.encode()


def script(*lines: Word, shebang: Word = "#!/bin/sh", end: bytes = b"\n") -> bytes:
    """Return a script of these lines, which does nothing."""
    return end.join([_bytes(line) for line in (shebang, *lines, "exit 0", "")])


def held_script(*lines: Word) -> bytes:
    """The same, with the hold in it."""
    return script("#SBATCH --hold", *lines)
