"""testbed.json of a lab: its nodes and racks, ports, and who may read the PDUs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.plant.pdu import SnmpAccess


class TestbedError(Exception):
    """A testbed.json that cannot be used; the text names the file and what is wrong."""

    __test__ = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Testbed:
    """What the plant needs to know of a lab. ``racks`` maps each rack to its nodes."""

    __test__ = False

    run_directory: Path
    gpus_per_node: int
    racks: dict[str, tuple[str, ...]]
    meter_port: int
    pcs_port: int
    pdu_ports: dict[str, int]
    snmp: SnmpAccess

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, rack by rack."""
        return tuple(node for nodes in self.racks.values() for node in nodes)


def read_testbed(run_directory: Path) -> Testbed:
    """Read RUN/etc/testbed.json; raises TestbedError."""
    file = run_directory / "etc" / "testbed.json"
    try:
        return _testbed(run_directory, json.loads(file.read_text()))
    except OSError as error:
        raise TestbedError(f"{file}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise TestbedError(f"{file}: {error}") from None
    except KeyError as error:
        raise TestbedError(f"{file}: {error} is missing") from None


def _testbed(run_directory: Path, document: dict[str, Any]) -> Testbed:
    racks: dict[str, list[str]] = {}
    for node, rack in document["nodes"].items():
        racks.setdefault(rack, []).append(node)
    ports, snmp = document["ports"], document["snmp"]
    if set(ports["pdu"]) != set(racks):
        raise ValueError(f"ports.pdu names {sorted(ports['pdu'])}, the nodes hang on {sorted(racks)}")
    return Testbed(
        run_directory=run_directory,
        gpus_per_node=int(document["gpus_per_node"]),
        racks={rack: tuple(nodes) for rack, nodes in racks.items()},
        meter_port=int(ports["meter"]),
        pcs_port=int(ports["pcs"]),
        pdu_ports={rack: int(port) for rack, port in ports["pdu"].items()},
        snmp=SnmpAccess(
            community=snmp["community"],
            user=snmp["user"],
            auth_key=snmp["auth_key"],
            priv_key=snmp["priv_key"],
        ),
    )
