"""The energy statement of one job: its receipt in sentences, with how each number is known."""

from collections.abc import Iterator

from slurm_power.cli.commands.jobs.job_fields import duration, energy, grams, power
from slurm_power.cli.commands.jobs.job_rows import Row
from slurm_power.model.money import money_text
from slurm_power.model.receipt import CostBasis, Method, Receipt

_METHODS = {
    Method.COUNTER: "by the GPUs' own energy counters",
    Method.POWER: "by power readings added up: these GPUs have no energy counter that could be trusted",
    Method.MIXED: "by the GPUs' energy counters, and by power readings added up where these did not reach",
    Method.SHARED: "with what others used who computed on the same GPUs",
}
_BASES = {
    CostBasis.PDU: "its part of the racks",
    CostBasis.GPUS_AND_HOST: "its GPUs and its part of the hosts",
    CostBasis.GPUS: "its GPUs alone",
}


def statement(row: Row) -> list[str]:
    """The lines of a job's statement."""
    what = f"Job {row.job_id} ({row.name}, {row.user}{f', {row.account}' if row.account else ''})"
    ran = f", ran {duration(row.elapsed_seconds)}" if row.elapsed_seconds else ""
    since = f" from {row.start:%Y-%m-%d %H:%M:%S}" if row.start is not None else ""
    where = f" on {row.nodes}" if row.nodes else ""
    gpus = f" with {row.gpu_count} GPUs" if row.gpu_count else ""
    lines = [f"{what}: {row.state}{ran}{since}{where}{gpus}."]
    if row.receipt is None:
        return [*lines, "No energy is known of it: no node has told of any, or it has not started."]
    if tier := row.tier or row.receipt.tier:
        lines.append(f"It ran the model tier {tier}.")
    kind = "Final" if row.final else "So far: its nodes have not closed their accounts"
    for part in (_energies(row.receipt), _levers(row.receipt), _worth(row), _steps(row.receipt)):
        lines += part
    return [*lines, f"{kind}; from {row.source}."]


def _energies(receipt: Receipt) -> Iterator[str]:
    if receipt.energy_joules is None:
        yield "Energy of its GPUs: not measured."
    else:
        how = "" if receipt.method is None else f", {_METHODS[receipt.method]}"
        joules = receipt.energy_joules
        yield f"Energy of its GPUs: {energy(joules, gap=' ')} ({joules:,.0f} J){how}."
        if receipt.is_estimate:
            covered = "an unknown part" if receipt.coverage_ratio is None else f"{receipt.coverage_ratio:.0%}"
            yield f"  This is an estimate: readings cover {covered} of its GPUs' time, less than 95 %."
        for ratio, words in (
            (receipt.estimated_ratio, "rests on power readings"),
            (receipt.shared_ratio, "was used while others computed on its GPUs, and some of it is theirs"),
        ):
            if ratio:
                yield f"  {ratio:.1%} of it {words}."
    if receipt.host_joules is None:
        yield "Its part of its hosts: not measured."
    else:
        yield f"Its part of its hosts: {energy(receipt.host_joules, gap=' ')}."
    if receipt.pdu_joules is not None:
        racks = energy(receipt.pdu_joules, gap=" ")
        yield f"Its part of its racks, by their PDUs: {racks}, for GPUs, hosts and losses."
    if receipt.mean_watts is not None:
        peak = power(receipt.peak_watts, gap=" ")
        yield f"Power of its GPUs together: mean {power(receipt.mean_watts, gap=' ')}, peak {peak}."


def _levers(receipt: Receipt) -> Iterator[str]:
    if receipt.lowest_cap_watts is None:
        yield "Never capped."
    else:
        slower = (
            "" if receipt.slowdown_ratio is None else f"; about {receipt.slowdown_ratio:.1%} slower over all"
        )
        capped = duration(receipt.capped_seconds) or "an unknown time"
        lowest = power(receipt.lowest_cap_watts, gap=" ")
        yield f"Capped for {capped}, at {lowest} a GPU at the lowest{slower}."
    held, paused = receipt.held_seconds or 0.0, receipt.paused_seconds or 0.0
    held_text = f"Held for {duration(held)} before its start" if held else "Not held by us"
    yield f"{held_text}{f', paused for {duration(paused)}' if paused else ', not paused'}."


def _worth(row: Row) -> Iterator[str]:
    receipt = row.receipt
    assert receipt is not None
    if receipt.cost is None:
        yield "Cost: not known: the site has no price for the time it ran."
    else:
        basis = "" if receipt.cost_basis is None else f", for {_BASES[receipt.cost_basis]}"
        yield f"Cost: {money_text(receipt.cost, row.currency)}{basis}."
    if receipt.co2_grams is None:
        yield "CO2: not known: the site has no carbon intensity for the time it ran."
    else:
        yield f"CO2: {grams(receipt.co2_grams, gap=' ')}."


def _steps(receipt: Receipt) -> Iterator[str]:
    if not receipt.step_joules and not receipt.steps_left_out:
        yield "Its energy is known as a whole, not by steps."
        return
    for name, joules in receipt.step_joules.items():
        yield f"Step {name}: {energy(joules, gap=' ')}, by the step's times."
    if receipt.steps_left_out:
        yield f"{receipt.steps_left_out} more steps are not told apart: they ran side by side, or were many."
