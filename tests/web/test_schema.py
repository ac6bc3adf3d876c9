"""The interface against its own OpenAPI document: schemathesis tries what no person would."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings

from slurm_power.model.role import Role
from slurm_power.web.openapi import openapi
from slurm_power.web.table import TABLE
from tests.web.bed import Bed

_QUICK, _DEEP = 8, 400
_ESCAPED = re.compile(r"\A[\w.\[\],%+-]*%[0-9A-Fa-f]{2}")


@pytest.fixture(scope="module")
def tried_bed() -> Iterator[Bed]:
    """A site of its own: events come and go here."""
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        made = Bed(Path(folder))
        made.web.web.throttle.seconds = 0.01
        yield made
        made.close()


# What a document of fields cannot say (there is no such circuit, two fields that exclude each other) is
# refused with 422, and so is data that follows it.
_ACCEPTED = ["2xx", "401", "403", "404", "422", "429"]
_CONFIG = schemathesis.config.SchemathesisConfig.from_dict(
    {"checks": {"positive_data_acceptance": {"expected-statuses": _ACCEPTED}}}
)
# The stream never ends: test_stream.py has it.
schema = schemathesis.openapi.from_dict(openapi(TABLE), config=_CONFIG).exclude(operation_id="stream")


_found: list[Any] = list(schema.get_all_operations())
OPERATIONS = [one.ok() for one in _found]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])


def look(operation: Any, bed: Bed, most_examples: int, *, again: bool) -> None:
    """Try an operation; ``again``: the same examples each time."""
    token = bed.token("opal", Role.OPERATOR)

    @settings(
        max_examples=most_examples,
        deadline=None,
        database=None,
        derandomize=again,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def each(case: Any) -> None:
        # schemathesis sends %8F as it is, and means the three letters, which would be %258F.
        assume(not any(_ESCAPED.search(str(value)) for value in (case.path_parameters or {}).values()))
        case.call_and_validate(base_url=bed.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    each()


# Not by schemathesis's own part of pytest: it would be loaded into every run of any test.
@each_operation
def test_every_answer_is_as_the_document_says(operation: Any, tried_bed: Bed) -> None:
    look(operation, tried_bed, _QUICK, again=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_operation
def test_every_answer_is_as_the_document_says_deeply(operation: Any, tried_bed: Bed) -> None:
    look(operation, tried_bed, _DEEP, again=False)
