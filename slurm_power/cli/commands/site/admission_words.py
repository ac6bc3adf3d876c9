"""What `slurm-power status` and `plan` say of the licences that count watts, and of what is kept of them."""

from slurm_power.cli.commands.connection import Answer
from slurm_power.cli.commands.quantities import duration_text, watts_text


def admission_lines(row: Answer | None) -> list[str]:
    """A line for the licences, one for each window, one for what is wrong; none where admission is off."""
    if row is None:
        return []
    lines = []
    if row["total_watts"] is not None:
        used, total = watts_text(row["used_watts"]), watts_text(row["total_watts"])
        other = row["other_watts"]
        rest = "" if other is None else f"; {watts_text(other)} of {row['circuit']} are drawn without"
        lines.append(f"licences {row['licence']}: running jobs have {used} of {total}{rest}")
    for window in row["windows"]:
        starts = window["starts_in_seconds"]
        kept = ("will be" if starts > 0 else "are") if row["laid"] else "would be"
        when = f" in {duration_text(starts)}" if starts > 0 else ""
        lasts = duration_text(window["ends_in_seconds"] - starts)
        longer = " or longer" if window["renewed"] else ""
        watts = watts_text(window["watts"])
        lines.append(f"{watts} {kept} kept from new jobs{when} for {lasts}{longer}: {window['reason']}")
    if row["problem"]:
        lines.append(f"admission: {row['problem']}")
    return lines
