"""Find a block of free loopback ports and hold it against other labs without leaving a trace."""

import random
import socket
from typing import Any

from containers.cluster.layout import LabError, node_names, rack_of

# Below 32768, where Linux starts to hand out ports to clients, and above what services register.
FIRST_PORT, LAST_PORT = 20000, 31999
BLOCK_SIZE = 80


def reserve_block() -> tuple[int, socket.socket]:
    """Return the first port of a free block and the socket that holds it.

    The claim is an abstract Unix socket: two labs cannot bind the same name, and it vanishes with the last
    process that has it open. Raises LabError when no block is free.
    """
    bases = list(range(FIRST_PORT, LAST_PORT - BLOCK_SIZE + 2, BLOCK_SIZE))
    random.shuffle(bases)  # neighbours that start together rarely try the same block
    for base in bases:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0slurm-power-lab-ports-{base}")
        except OSError:
            claim.close()
            continue
        if all(_is_free(port) for port in range(base, base + BLOCK_SIZE)):
            return base, claim
        claim.close()
    raise LabError(f"no block of {BLOCK_SIZE} free ports between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:  # a connection in TIME_WAIT does not stop a daemon either
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def assign(base: int, nodes: int) -> dict[str, Any]:
    """Give every listener of a lab its port from the block that starts at ``base``."""
    numbers = iter(range(base, base + BLOCK_SIZE))
    racks = dict.fromkeys(rack_of(index) for index in range(nodes))
    ports: dict[str, Any] = {
        name: next(numbers) for name in ("slurmctld", "slurmdbd", "meter", "pcs", "powerctld", "powerweb")
    }
    ports["slurmd"] = {node: next(numbers) for node in node_names(nodes)}
    ports["pdu"] = {rack: next(numbers) for rack in racks}
    return ports
