"""Our note in a job's AdminComment of the nodes we keep it off, with those its user excludes.

    {"power": {"avoid": {"by": "slurm-power", "nodes": "c[1-2]", "own": "", "reason": "..."}}}

``own`` is the user's own exclusion, which comes back when ours ends. Text that is no JSON object belongs to
somebody else and is never changed.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

from slurm_power.slurm.admin_comment import OWNER, read_object
from slurm_power.slurm.hostlist import compress, expand


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNote:
    """The nodes we keep a job off, and those its user does."""

    nodes: frozenset[str]
    own: frozenset[str]
    reason: str = ""


def node_note(text: str) -> NodeNote | None:
    """Return our note in an AdminComment, None if there is none that can be read."""
    avoid = (read_object(text) or {}).get("power", {}).get("avoid")
    if not isinstance(avoid, dict) or avoid.get("by") != OWNER:
        return None
    try:
        nodes, own = (_names(str(avoid.get(key, ""))) for key in ("nodes", "own"))
    except ValueError:
        return None
    return NodeNote(nodes=nodes, own=own, reason=str(avoid.get("reason", ""))) if nodes else None


@lru_cache(maxsize=32)
def _names(text: str) -> frozenset[str]:
    """The names of a list that may be thousands long, and comes back with each look at the queue."""
    return frozenset(expand(text))


def with_nodes(text: str, note: NodeNote | None) -> str | None:
    """Return the AdminComment with our note set, or without it for None; None if the text is foreign."""
    value = read_object(text)
    if value is None:
        return None
    power = {key: entry for key, entry in value.get("power", {}).items() if key != "avoid"}
    if note is not None:
        nodes, own = compress(note.nodes), compress(note.own)
        power["avoid"] = {"by": OWNER, "nodes": nodes, "own": own, "reason": note.reason}
    rest = {key: entry for key, entry in value.items() if key != "power"}
    if power:
        rest["power"] = power
    return json.dumps(rest, separators=(",", ":")) if rest else ""
