"""The interface against its own OpenAPI document: schemathesis tries what no person would."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from slurm_power.model.role import Role
from slurm_power.web.openapi import openapi
from slurm_power.web.table import TABLE
from tests.web.bed import Bed

_QUICK, _DEEP = 8, 400


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


def looked_at(case: Any, bed: Bed) -> None:
    token = bed.token("opal", Role.OPERATOR)
    case.call_and_validate(base_url=bed.url, headers={"Authorization": f"Bearer {token}"}, timeout=20)


@schema.parametrize()
@settings(
    max_examples=_QUICK,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(case: Any, tried_bed: Bed) -> None:
    looked_at(case, tried_bed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@schema.parametrize()
@settings(max_examples=_DEEP, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says_deeply(case: Any, tried_bed: Bed) -> None:
    looked_at(case, tried_bed)
