"""The comparison notices what it is there for, and lets pass what it names."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.compat.record import Component, Submission, differences, parse, submitted_number
from tests.compat.slurm import Outcome

RECORD = (
    "JobId={0} JobName=a b UserId=alice(20001) Priority=0 SubmitTime=2026-01-01T00:00:0{1} "
    "StartTime=2026-01-01T01:00:0{1} AdminComment={{}} "
    "WorkDir=/home/{2} StdOut=/home/{2}/slurm-{0}.out Power="
)


def submission(number: int, *, second: int = 0) -> Submission:
    fields = parse(RECORD.format(number, second, "x12"))
    component = Component(number, fields, b"#!/bin/sh\n", b"\2\0\0\0A=1\0B=2\0")
    return Submission(Outcome(0, f"Submitted batch job {number}\n".encode(), b""), (component,))


def changed(**fields: str) -> Submission:
    plain = submission(13)
    component = plain.components[0]
    return replace(plain, components=(replace(component, fields={**component.fields, **fields}),))


def test_two_submissions_of_the_same_are_equal() -> None:
    assert not differences(submission(12), submission(13, second=2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("JobName", "a c"),
        ("AdminComment", '{"power":{}}'),
        ("StdOut", "/home/x12/slurm-14.out"),
        ("StdOut", "/home/x13/slurm-13.out"),
        ("StartTime", "2026-01-01T01:00:09"),
        ("StartTime", "Unknown"),
        ("New", "1"),
    ],
)
def test_a_field_that_differs_is_named(field: str, value: str) -> None:
    found = differences(submission(12), changed(**{field: value}))
    assert [text.partition(":")[0] for text in found] == [field]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda it: replace(it, outcome=replace(it.outcome, status=1)), "status"),
        (lambda it: replace(it, outcome=replace(it.outcome, stderr=b"psbatch: hello\n")), "stderr"),
        (lambda it: replace(it, outcome=replace(it.outcome, stdout=b"13\n")), "stdout"),
        (lambda it: replace(it, components=()), "stdout"),
        (lambda it: replace(it, components=(replace(it.components[0], script=b"#!/bin/sh"),)), "script"),
        (
            lambda it: replace(it, components=(replace(it.components[0], environment=b"\1\0\0\0A=1\0"),)),
            "environment",
        ),
        (
            lambda it: replace(
                it, components=(replace(it.components[0], environment=b"\2\0\0\0B=2\0A=1\0"),)
            ),
            "environment",
        ),
    ],
)
def test_what_was_said_and_kept_is_compared(change: Callable[[Submission], Submission], named: str) -> None:
    found = differences(submission(12), change(submission(13)))
    assert found[0].partition(":")[0] == named


def test_what_we_set_may_differ_where_it_was_asked_for() -> None:
    ours = changed(AdminComment='{"power":{"flex":"flex2"}}')
    component = replace(
        ours.components[0],
        environment=b"\4\0\0\0A=1\0B=2\0SLURM_POWER_FLEX=flex2\0SLURM_SPANK_POWER_FLEX=flex2\0",
    )
    ours = replace(ours, components=(component,))
    assert not differences(submission(12), ours, our_fields=True, our_variables=True)
    assert len(differences(submission(12), ours)) == 2


def test_our_note_may_stand_on_stderr() -> None:
    plain = submission(13)
    note = b"psbatch: no power controller at a:1 (no answer within 150 ms): submitting plainly\n"
    assert not differences(submission(12), replace(plain, outcome=replace(plain.outcome, stderr=note)))


@pytest.mark.parametrize(
    ("stdout", "number"),
    [
        (b"Submitted batch job 17\n", 17),
        (b"Submitted batch job 17 on cluster lab\n", 17),
        (b"17\n", 17),
        (b"17;lab\n", 17),
        (b"", None),
        (b"slurm-wlm 22.05.8\n", None),
    ],
)
def test_the_number_sbatch_prints(stdout: bytes, number: int | None) -> None:
    assert submitted_number(stdout) == number
