"""The report on fairness: who was slowed or held, by how much, whether promises were kept, and appeals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from slurm_power.report.audit.proof import ChainProof
from slurm_power.report.fairness.fairness import EventLoss, Fairness, JobLoss, Share
from slurm_power.report.fairness.fairness_reading import AppealNote
from slurm_power.report.frame.document import (
    Check,
    Column,
    Document,
    Figure,
    Paragraph,
    Section,
    Table,
    Tile,
    Value,
    number_column,
    percent,
)
from slurm_power.report.site_facts import SiteFacts

_MOST_JOBS = 500
_MOST_SEQUENCES = 20
_KWH = 3.6e6


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnessReport:
    """What the document is made of. ``anonymous``: names have been left out already, and words go too."""

    fair: Fairness
    events: Sequence[EventLoss]
    appeals: Sequence[AppealNote]
    site: SiteFacts
    since: datetime
    until: datetime
    span_words: str
    proof: ChainProof
    made_at: datetime
    anonymous: bool = False
    figure: str = ""


@dataclass(slots=True)
class _Names:
    """Pseudonyms, given in the order in which names are met."""

    word: str
    known: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        return self.known.setdefault(name, f"{self.word} {len(self.known) + 1}")


def without_names(report: FairnessReport) -> FairnessReport:
    """The report for everybody to see: the same person has the same pseudonym all through it.

    Pseudonyms are numbers in the order of who lost the largest share. What people wrote is left out,
    since names may be in it, and so are ledger entries, which lead to names.
    """
    users, accounts, jobs = _Names("user"), _Names("account"), _Names("job")
    fair = report.fair

    def renamed(shares: Sequence[Share], names: _Names) -> tuple[Share, ...]:
        return tuple(replace(share, name=names.of(share.name)) for share in shares)

    found_users, found_accounts = renamed(fair.users, users), renamed(fair.accounts, accounts)
    return replace(
        report,
        anonymous=True,
        fair=replace(
            fair,
            users=found_users,
            accounts=found_accounts,
            worst=None if fair.worst is None else replace(fair.worst, name=users.of(fair.worst.name)),
            jobs=tuple(
                replace(
                    job,
                    job_id=jobs.of(job.job_id),
                    user=users.of(job.user),
                    account=accounts.of(job.account),
                )
                for job in fair.jobs
            ),
        ),
        events=[replace(one, user=users.of(one.user)) for one in report.events],
        appeals=[
            replace(
                note,
                job_id=jobs.of(note.job_id),
                user=users.of(note.user),
                text="",
                answer="answered" if note.answered_at is not None else "",
                answered_by="",
            )
            for note in report.appeals
        ],
    )


def fairness_document(report: FairnessReport) -> Document:
    """The report; names stand in it as they are, the frame makes them harmless."""
    fair = report.fair
    blocks: list[Figure | Paragraph | Table] = [_shares("users", "Users", "User", fair.users)]
    if report.figure:
        blocks.append(Figure(title="How losses lie", svg=report.figure, text=distribution_words(fair)))
    else:
        blocks.append(Paragraph(distribution_words(fair)))
    return Document(
        title=f"Fairness at {report.site.name}",
        subtitle=report.span_words,
        checks=tuple(_checks(report)),
        tiles=tuple(_tiles(fair)),
        sections=(
            Section(title="Users", blocks=tuple(blocks)),
            Section(title="Accounts", blocks=(_shares("accounts", "Accounts", "Account", fair.accounts),)),
            Section(title="Flex classes", blocks=(_classes(fair),)),
            Section(title="Promises", blocks=_promises(report)),
            Section(title="Grid events", blocks=(_events(report.events),)),
            Section(title="Jobs that were touched", blocks=(_jobs(fair),)),
            Section(title="Appeals", blocks=_appeals(report)),
            Section(title="How it is counted", blocks=(Paragraph(_method(report.site)),)),
        ),
        proof=report.proof.lines,
        labels={
            "Site": report.site.name,
            "From": f"{report.since.astimezone(report.site.zone):%Y-%m-%d %H:%M:%S %Z}",
            "Until": f"{report.until.astimezone(report.site.zone):%Y-%m-%d %H:%M:%S %Z}",
            "Names": "left out" if report.anonymous else "as in Slurm",
            "Made": f"{report.made_at:%Y-%m-%d %H:%M:%S} UTC",
        },
    )


def _checks(report: FairnessReport) -> Iterator[Check]:
    fair = report.fair
    touched = sum(job.touched for job in fair.jobs)
    breached = len(fair.breached)
    yield Check(
        good=not breached,
        yes="All promises were kept",
        no="Promises were exceeded, for safety",
        detail=f"{touched - breached} of {touched} jobs that were touched kept theirs",
    )
    waiting = sum(note.answered_at is None for note in report.appeals)
    yield Check(
        good=not waiting,
        yes="No appeal waits for an answer",
        no="Appeals wait for an answer",
        detail=f"{waiting} of {len(report.appeals)}",
    )
    yield report.proof.check


def _tiles(fair: Fairness) -> Iterator[Tile]:
    yield Tile(name="Jain index", value=f"{fair.jain_index:.4f}", remark="1 is all alike")
    if fair.worst is None:
        yield Tile(name="Worst off", value="nobody", remark="nothing was taken")
    else:
        lost = f"{100.0 * fair.worst.lost_ratio:.2f} % lost"
        yield Tile(name="Worst off", value=fair.worst.name, remark=lost)
    lost_hours = sum(share.slowed_gpu_hours + share.paused_gpu_hours for share in fair.users)
    yield Tile(name="GPU time lost", value=f"{lost_hours:.1f} GPU-hours", remark="to caps and pauses")
    held = sum(share.held_gpu_hours for share in fair.users)
    yield Tile(name="GPU time held", value=f"{held:.1f} GPU-hours", remark="of jobs that waited for us")


def distribution_words(fair: Fairness) -> str:
    """How losses lie on users, in words."""
    if not fair.users:
        return "No job ran."
    ratios = [share.lost_ratio for share in fair.users]
    none = sum(ratio <= 0.0 for ratio in ratios)
    middle = sorted(ratios)[len(ratios) // 2]
    return (
        f"{len(ratios)} users: {none} lost nothing; the middle one lost {100.0 * middle:.2f} %, the worst"
        f" {100.0 * max(ratios):.2f} % of its GPU time."
    )


def _shares(name: str, title: str, heading: str, shares: Sequence[Share]) -> Table:
    return Table(
        name=name,
        title=f"{title}, who lost the largest share first",
        columns=(
            Column(heading=heading),
            number_column("Jobs", digits=0),
            number_column("Touched", digits=0),
            number_column("GPU time", "GPU-hours", digits=1),
            number_column("Lost to caps", "GPU-hours", digits=2),
            number_column("Lost to pauses", "GPU-hours", digits=2),
            number_column("Held", "s", digits=0),
            number_column("Held", "GPU-hours", digits=2),
            number_column("Own time lost", "%", digits=2),
            number_column("Lost, as planned with", "%", digits=2),
            number_column("Promises exceeded", digits=0),
        ),
        rows=tuple(_row(share) for share in shares),
    )


def _row(share: Share) -> tuple[Value, ...]:
    return (
        share.name,
        share.jobs,
        share.touched_jobs,
        share.gpu_hours,
        share.slowed_gpu_hours,
        share.paused_gpu_hours,
        share.held_seconds,
        share.held_gpu_hours,
        percent(share.own_ratio),
        100.0 * share.lost_ratio,
        share.breached_jobs,
    )


def _classes(fair: Fairness) -> Table:
    rows = tuple(
        (
            share.name,
            share.jobs,
            share.gpu_hours,
            percent(share.own_ratio),
            share.held_seconds,
            share.given_joules / _KWH,
            share.median_wait_seconds,
        )
        for share in fair.classes
    )
    return Table(
        name="classes",
        title="What each class gave, and what its jobs had of it",
        columns=(
            Column(heading="Class"),
            number_column("Jobs", digits=0),
            number_column("GPU time", "GPU-hours", digits=1),
            number_column("Own time lost", "%", digits=2),
            number_column("Held", "s", digits=0),
            number_column("Given to the site", "kWh", digits=2),
            number_column("Median wait to start", "s", digits=0),
        ),
        rows=rows,
        note=(
            "Given: what GPUs would have drawn without caps, pauses and holds. The median wait, from"
            " submission to start, is what users gained or lost by their class; it depends on the queue, too."
        ),
    )


def _promises(report: FairnessReport) -> tuple[Paragraph | Table, ...]:
    breached = report.fair.breached
    if not breached:
        return (Paragraph("No cap, pause or hold went beyond what the job's class allows."),)
    rows = tuple(
        (
            job.job_id,
            job.user,
            job.flex,
            job.breached_seconds,
            "" if report.anonymous else _sequences(job.breaches),
        )
        for job in breached
    )
    table = Table(
        name="promises",
        title="Jobs whose promise was exceeded",
        columns=(
            Column(heading="Job"),
            Column(heading="User"),
            Column(heading="Class"),
            number_column("Exceeded for", "s", digits=0),
            Column(heading="Ledger entries"),
        ),
        rows=rows,
        note="Only a safety limit may take more than a class allows; the entries say which, and why.",
    )
    return (table,)


def _sequences(found: Sequence[int]) -> str:
    more = f" and {len(found) - _MOST_SEQUENCES} more" if len(found) > _MOST_SEQUENCES else ""
    return ", ".join(str(one) for one in found[:_MOST_SEQUENCES]) + more


def _events(events: Sequence[EventLoss]) -> Table:
    return Table(
        name="events",
        title="What each user lost in each grid event",
        columns=(
            Column(heading="Event"),
            Column(heading="User"),
            number_column("Lost to caps", "GPU-hours", digits=3),
            number_column("Held", "GPU-hours", digits=3),
            number_column("Of all that was lost in it", "%", digits=1),
        ),
        rows=tuple(
            (
                one.event_id,
                one.user,
                one.lost_gpu_hours,
                one.held_gpu_hours,
                percent(one.share_ratio),
            )
            for one in events
        ),
        note="" if events else "No grid event that began in this time is over.",
    )


def _jobs(fair: Fairness) -> Table:
    touched = [job for job in fair.jobs if job.touched]

    def row(job: JobLoss) -> tuple[Value, ...]:
        return (
            job.job_id,
            job.user,
            job.account,
            job.flex,
            job.gpu_count,
            job.ran_seconds,
            job.lost_gpu_seconds / 3600.0,
            job.capped_seconds,
            job.paused_seconds,
            job.held_seconds,
            job.method,
        )

    left_out = len(touched) - _MOST_JOBS
    return Table(
        name="jobs",
        title="Jobs, the most loss first",
        columns=(
            Column(heading="Job"),
            Column(heading="User"),
            Column(heading="Account"),
            Column(heading="Class"),
            number_column("GPUs", digits=0),
            number_column("Ran", "s", digits=0),
            number_column("Lost", "GPU-hours", digits=3),
            number_column("Capped", "s", digits=0),
            number_column("Paused", "s", digits=0),
            number_column("Held", "s", digits=0),
            Column(heading="Cut"),
        ),
        rows=tuple(row(job) for job in touched[:_MOST_JOBS]),
        note=f"{left_out} more lost less than these." if left_out > 0 else "",
    )


def _appeals(report: FairnessReport) -> tuple[Paragraph | Table, ...]:
    if not report.appeals:
        return (Paragraph("No appeal was filed in this time."),)
    rows = tuple(
        (
            note.at,
            note.job_id,
            note.user,
            "" if report.anonymous else note.text,
            note.answered_at,
            "" if report.anonymous else note.answered_by,
            note.answer or "waits",
        )
        for note in report.appeals
    )
    table = Table(
        name="appeals",
        title="Appeals and answers",
        columns=(
            Column(heading="Filed", kind="time"),
            Column(heading="Job"),
            Column(heading="User"),
            Column(heading="Appeal"),
            Column(heading="Answered", kind="time"),
            Column(heading="By"),
            Column(heading="Answer"),
        ),
        rows=rows,
        note="What people wrote is left out." if report.anonymous else "",
    )
    return (table,)


def _method(site: SiteFacts) -> str:
    return (
        "GPU time lost is slowdown times GPUs times time of all caps of ours (a cap that a user asked for is"
        " none), and all of a pause. Own time lost: of the time the jobs had their GPUs. Lost, as planned"
        f" with: holds count too, a second held as {site.wait_lost_ratio:.2f} s lost, and an hour of one GPU"
        " is added to what was had, so that somebody's first minutes weigh little. The index is Jain's,"
        " (sum x)^2 / (n sum x^2), of what each user kept, over this time alone; the planner's own forgets"
        " with time. Jobs that cross an end are cut there by the times of the ledger's entries about them."
    )
