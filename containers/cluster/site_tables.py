"""The rack tables of a lab's site.toml: one circuit and one PDU for each rack that its nodes hang on."""

from containers.cluster.layout import Layout

# 2 nodes of 8 H100 draw 17.9 kW at most; a rack's breaker and its static limit lie a little above.
RACK_RATING_WATTS = 22_000
RACK_LIMIT_WATTS = 20_000


def rack_tables(layout: Layout) -> str:
    """Return the [circuit.rackN] and [device.pduN] tables as TOML."""
    nodes_by_rack: dict[str, list[str]] = {}
    for node, rack in layout.racks.items():
        nodes_by_rack.setdefault(rack, []).append(node)
    return "\n".join(_tables(layout, rack, nodes) for rack, nodes in nodes_by_rack.items())


def _tables(layout: Layout, rack: str, nodes: list[str]) -> str:
    names = ", ".join(f'"{node}"' for node in nodes)
    return f"""\
[circuit.{rack}]
parent = "grid"
rating_watts = {RACK_RATING_WATTS}
limit_watts = {min(RACK_LIMIT_WATTS, layout.options.grid_limit_watts)}
limit_kind = "safety"
meter = "pdu_{rack}"
nodes = [{names}]
overhead_ratio = 1.064          # power supplies of the nodes

[device.pdu_{rack}]
driver = "snmp_pdu"
map = "apc_rpdu2"
address = "127.0.0.1:{layout.ports["pdu"][rack]}"
user = "{layout.snmp["user"]}"
auth_key_file = "{layout.etc}/snmp_auth_key"
privacy_key_file = "{layout.etc}/snmp_priv_key"
"""
