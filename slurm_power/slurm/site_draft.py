"""Drafts site.toml and node.toml from what Slurm says; guesses are marked TODO, and ``check`` lists them."""

import json
import re

from slurm_power.slurm.finding import Finding, warning
from slurm_power.slurm.found import Found, FoundNode
from slurm_power.slurm.places import DEFAULT_STATE_DIRECTORY, Places

# Boards' default limits; what a type is called in Slurm is the site's own choice.
_GPU_WATTS = {
    "b300": 1400,
    "b200": 1000,
    "h200": 700,
    "h100": 700,
    "mi300": 750,
    "mi250": 560,
    "a100": 400,
    "v100": 300,
}
_OTHER_GPU_WATTS = 700
_HOST_WATTS_PER_GPU = 225
_NODE_WATTS = 500
# Power supplies and cooling on top of what the computers draw, and a breaker's own margin.
_MARGIN = 1.25
_STEP_WATTS = 1000
_TODO = re.compile(r"#\s*TODO:?\s*(.*)")


def site_toml(found: Found, places: Places) -> str:
    """A site.toml that loads, watches only, and says where it has guessed."""
    listen = f"127.0.0.1:{places.port}" if places.loopback else f"0.0.0.0:{places.port}"
    lines = [
        "# The site as powerctld sees it, drafted by slurm-power init from what Slurm says. Values with TODO",
        "# are guesses: put in what is true, then remove the mark. slurm-power check lists those left.",
        "# All keys: docs/configuration.md",
        "[site]",
        f"name = {_text(found.setting('ClusterName') or 'site')}",
        "",
        "[controller]",
        f"listen = {_text(listen)}",
        f"socket = {_text(f'{places.run_directory}/powerctld.sock')}",
        f"state_directory = {_text(f'{places.state_directory}/powerctld')}",
        f"tls_directory = {_text(f'{places.config_directory}/tls')}",
        f"slurm_conf = {_text(found.slurm_conf)}",
        *([f"munge_socket = {_text(found.munge_socket)}"] if found.munge_socket else []),
        "",
        "[policy]",
        "# Watch and write down what would be done, touch nothing. Remove this line when that looks right.",
        "control = false",
        "",
        *_circuits(found),
    ]
    return "\n".join(lines)


def node_toml(found: Found, places: Places) -> str:
    """The one node.toml for all nodes; ``%n`` is the node's name where several share a host."""
    part = ".%n" if found.shared_host else ""
    timeout = found.hook_timeout_seconds
    lines = [
        "# What powerd needs to know; the same on all nodes. All keys: docs/configuration.md",
        f"controller = {_text(places.controller)}",
        f"ca_file = {_text(f'{places.config_directory}/ca.pem')}",
        f"socket = {_text(f'{places.run_directory}/powerd{part}.sock')}",
        f"state_directory = {_text(f'{places.state_directory}/powerd{part}')}",
        f"slurm_conf = {_text(found.slurm_conf)}",
        *([f"munge_socket = {_text(found.munge_socket)}"] if found.munge_socket else []),
        *(
            []
            if timeout is None
            else [f"prolog_timeout_seconds = {timeout:g}  # slurm.conf's PrologEpilogTimeout"]
        ),
        "# For circuits of kind safety: each GPU's cap when the controller is lost, so that all of them,",
        "# with their hosts, fit the breaker.",
        "# safe_cap_watts = 400",
        "",
    ]
    return "\n".join(lines)


def slurm_power_conf(found: Found, places: Places) -> str:
    """slurm-power.conf, which hooks and psbatch read."""
    part = ".%n" if found.shared_host else ""
    elsewhere = places.state_directory != DEFAULT_STATE_DIRECTORY
    return (
        f"controller={places.controller}\n"
        f"controller_socket={places.run_directory}/powerctld.sock\n"
        f"node_socket={places.run_directory}/powerd{part}.sock\n"
        + (f"admission_file={places.state_directory}/admission/expected_watts\n" if elsewhere else "")
    )


def left_to_do(file: str, text: str) -> list[Finding]:
    """A finding for each TODO that still stands in a file."""
    found = []
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if (heading := re.match(r"\s*\[([^\]]+)\]", line)) is not None:
            table = heading[1]
        match = _TODO.search(line)
        if match is None:
            continue
        key, equals, _ = line.partition("=")
        name = f"{table}.{key.strip()}" if equals and not line.lstrip().startswith("#") else table
        found.append(
            warning(
                f"{file}:{number}",
                f"{name} is still a guess ({match[1].strip() or 'TODO'})",
                "put in what is true and remove the mark TODO",
            )
        )
    return found


def _circuits(found: Found) -> list[str]:
    racks = found.racks
    by_name = {node.name: node for node in found.nodes}
    total = sum(_watts([by_name[name] for name in members]) for members in racks.values()) or _watts(
        list(found.nodes)
    )
    gpus = sum(node.gpu_count for node in found.nodes)
    lines = [
        "[circuit.grid]",
        f"rating_watts = {total:_}  # TODO: what the connection is rated for; guessed from {gpus} GPUs",
        'limit_kind = "economic"',
        f"# limit_watts = {total:_}  # the contracted limit, where there is one",
        '# meter = "grid_meter"  # and a [device.grid_meter]; without a meter the limit is not held',
        *([] if racks else [f"nodes = [{_names([node.name for node in found.nodes])}]"]),
        "",
    ]
    for rack, members in racks.items():
        watts = _watts([by_name[name] for name in members])
        lines += [
            f"[circuit.{rack}]",
            'parent = "grid"',
            f"rating_watts = {watts:_}  # TODO: the rack's breaker; guessed from its GPUs",
            'limit_kind = "safety"',
            f'# meter = "pdu_{rack}"',
            f"nodes = [{_names(members)}]",
            "",
        ]
    return lines


def _watts(nodes: list[FoundNode]) -> int:
    """Guess what a breaker for these nodes may be rated for."""
    watts = sum(
        _NODE_WATTS + node.gpu_count * (_gpu_watts(node.gpu_type) + _HOST_WATTS_PER_GPU) for node in nodes
    )
    return -(-int(watts * _MARGIN) // _STEP_WATTS) * _STEP_WATTS


def _gpu_watts(kind: str) -> int:
    return next((watts for name, watts in _GPU_WATTS.items() if name in kind.lower()), _OTHER_GPU_WATTS)


def _names(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(_text(name) for name in names)


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are a part of TOML's."""
    return json.dumps(value, ensure_ascii=False)
