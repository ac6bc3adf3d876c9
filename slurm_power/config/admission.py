"""The ``[admission]`` table: whether Slurm's own scheduler keeps the power budget, and by which licence."""

import re
from dataclasses import dataclass
from pathlib import Path

from slurm_power.model.site import Site

DEFAULT_FILE = Path("/var/lib/slurm-power/admission/expected_watts")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """Admission by Slurm itself (docs/admission.md).

    ``enabled``: whether licences are looked at and reserved at all; with ``policy.control`` off nothing is.
    ``licence``: the licence of slurm.conf that counts watts. ``circuit``: whose safety rating it is; "" for
    the grid connection. ``standing_watts``: what that circuit draws while no job runs; the licence's total
    is the rating less this. ``file``: where job_submit.lua reads what to expect of jobs.
    ``lease_seconds``: how long a reduction without a known end stays when powerctld is gone.
    ``ess_share_ratio``: which share of what batteries can keep up through a window counts as room for jobs.
    ``cpu_watts`` and ``node_watts``: what each CPU and each node of a job without GPUs adds.
    ``follow_caps``: whether a running job's licence follows what it draws under a cap, and by itself,
    once that has stood ``follow_seconds``. ``hres``: the hierarchical resource that jobs ask for as well,
    in watts per node; "" for none.
    """

    enabled: bool = False
    licence: str = "watts"
    circuit: str = ""
    standing_watts: float = 0.0
    file: Path = DEFAULT_FILE
    lease_seconds: float = 600.0
    ess_share_ratio: float = 0.0
    cpu_watts: float = 0.0
    node_watts: float = 0.0
    follow_caps: bool = True
    follow_seconds: float = 60.0
    hres: str = ""

    def problems(self, site: Site | None) -> list[str]:
        """What is wrong, each problem with its key; ``site`` is None where its tree has problems itself."""
        found = []
        for key, low, high in (
            ("standing_watts", 0.0, 5e9),
            ("lease_seconds", 60.0, 86_400.0),
            ("ess_share_ratio", 0.0, 1.0),
            ("cpu_watts", 0.0, 1000.0),
            ("node_watts", 0.0, 100_000.0),
            ("follow_seconds", 5.0, 3600.0),
        ):
            value = getattr(self, key)
            if not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        for key in ("licence", "hres"):
            name = getattr(self, key)
            if _NAME.fullmatch(name) is None and (name or key == "licence"):
                found.append(f"{key}: {name!r} is no name of a licence; write letters, digits and _")
        if self.hres and self.hres == self.licence:
            found.append(f"hres: {self.hres} is the licence's name; Slurm wants another")
        return found if site is None else found + self._circuit_problems(site)

    def _circuit_problems(self, site: Site) -> list[str]:
        if self.circuit and self.circuit not in site.circuits:
            return [f"circuit: there is no [circuit.{self.circuit}]"]
        if not self.enabled:
            return []
        name = self.circuit or site.root.name
        apart = [node for node in site.nodes() if name not in site.circuits_of_node(node)]
        if apart:
            return [f"circuit: {name} does not feed {apart[0]}; name a circuit that feeds all nodes"]
        rating = site.circuits[name].rating_watts
        if self.standing_watts >= rating:
            text = f"{self.standing_watts:g} W leaves nothing of the rating of {name}, {rating:g} W"
            return [f"standing_watts: {text}"]
        return []
