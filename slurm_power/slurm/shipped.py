"""The files that come with slurm-power and run outside it: hooks, the plugin's source, systemd's units."""

import sys
from dataclasses import dataclass
from pathlib import Path

HOOKS = {
    "Prolog": "prolog",
    "Epilog": "epilog",
    "PrologSlurmctld": "prolog_slurmctld",
    "EpilogSlurmctld": "epilog_slurmctld",
    "TaskProlog": "task_prolog",
}
JOB_SUBMIT = "job_submit.lua"
# The same script under another name, where the site has a job_submit.lua of its own.
JOB_SUBMIT_BESIDE = "slurm_power_job_submit.lua"
PLUGIN = "slurm_power.so"


class NotShippedError(Exception):
    """This installation lacks the files; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What this version brings. ``hooks`` by Slurm's setting, ``units`` by file name: their texts.

    ``lua`` are the scripts that ``job_submit`` loads from beside itself, by file name.
    """

    hooks: dict[str, str]
    job_submit: str
    lua: dict[str, str]
    units: dict[str, str]
    plugin_sources: tuple[Path, ...]

    def wanted_hooks(self, *, with_plugin: bool) -> dict[str, str]:
        """The hooks that a site needs: where the SPANK plugin is, tasks need no TaskProlog."""
        return {
            setting: text
            for setting, text in self.hooks.items()
            if setting != "TaskProlog" or not with_plugin
        }


def shipped() -> Shipped:
    """Read them, from a checkout or from where pip puts them; raises NotShippedError."""
    hooks = _folder("prolog_epilog", JOB_SUBMIT)
    units = _folder("systemd", "powerd.service")
    return Shipped(
        hooks={
            setting: (hooks / name).read_text() for setting, name in HOOKS.items() if (hooks / name).exists()
        },
        job_submit=(hooks / JOB_SUBMIT).read_text(),
        lua={file.name: file.read_text() for file in sorted(hooks.glob("*.lua")) if file.name != JOB_SUBMIT},
        units={file.name: file.read_text() for file in sorted(units.glob("*.service"))},
        plugin_sources=tuple(sorted(_folder("spank", "slurm_power.c").glob("*.c"))),
    )


def _folder(name: str, file: str) -> Path:
    checkout = Path(__file__).parents[2]
    places = [checkout / name, checkout / "docs" / name, Path(sys.prefix) / "share" / "slurm-power" / name]
    for place in places:
        if (place / file).exists():
            return place
    raise NotShippedError(
        f"{name}/{file} is in none of {', '.join(map(str, places))}; install slurm-power again"
    )
