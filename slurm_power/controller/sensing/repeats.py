"""What is said over and over, for the ledger: the first time at once, then how often, once in a while."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

QUIET_SECONDS = 600.0
# Different things of one source that are told apart; what comes beyond so many is counted together.
MOST_KINDS = 256

Key = tuple[Hashable, ...]


@dataclass(slots=True)
class _Told:
    at_seconds: float
    write: Callable[[str], None]
    more: int = 0


class Repeats:
    """``write`` gets the words to add to an entry: none, or how often it has happened again."""

    def __init__(self) -> None:
        self._told: dict[str, dict[Key, _Told]] = {}

    def tell(self, who: str, key: Key, write: Callable[[str], None], now_seconds: float) -> None:
        """Something happened to a node or a source; equal keys are the same thing again."""
        kinds = self._told.setdefault(who, {})
        if key not in kinds and len(kinds) >= MOST_KINDS:
            key = ()
        told = kinds.get(key)
        if told is None:
            kinds[key] = _Told(now_seconds, write)
            write("")
        else:
            told.more += 1
            told.write = write

    def flush(self, now_seconds: float, *, everything: bool = False) -> None:
        """Write what has happened again and was told long enough ago, or ``everything``."""
        for who, kinds in list(self._told.items()):
            for key, told in list(kinds.items()):
                seconds = now_seconds - told.at_seconds
                if seconds < QUIET_SECONDS and not everything:
                    continue
                if told.more:
                    told.write(f" ({told.more} times more within {seconds:.0f} s)")
                    told.at_seconds, told.more = now_seconds, 0
                else:
                    del kinds[key]
            if not kinds:
                del self._told[who]
