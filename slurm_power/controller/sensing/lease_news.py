"""Which leases on nodes' GPUs have lately run out or were fought for: counted for pictures and alerts."""

_KEPT_SECONDS = 60.0
# A site that loses all its leases at once says so with fewer.
_MOST_KEPT = 100_000
_WORDS = ("expired", "drifted")


class LeaseNews:
    """What nodes have told of their leases in the last minute, by GPU."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[tuple[str, str], float]] = {word: {} for word in _WORDS}

    def take(self, node: str, uuid: str, event: str, now_seconds: float) -> None:
        """Take one word of a node; what is neither an expiry nor a drift tells that it is over."""
        key = node, uuid
        for word, seen in self._seen.items():
            if event == word and (key in seen or len(seen) < _MOST_KEPT):
                seen.pop(key, None)
                seen[key] = now_seconds
            elif event == "verified" and word == "expired":
                seen.pop(key, None)

    def count(self, event: str, now_seconds: float) -> int:
        """On how many GPUs a lease has ``expired`` or ``drifted`` in the last minute."""
        seen = self._seen[event]
        # The oldest stand first.
        for key in list(seen):
            if now_seconds - seen[key] <= _KEPT_SECONDS:
                break
            del seen[key]
        return len(seen)
