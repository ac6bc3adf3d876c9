"""What VEN and VTN of the test bed say, against the public OpenAPI file of OpenADR 3, where one is given.

The file is the OpenADR Alliance's and no part of this project: SLURM_POWER_OPENADR3_YAML names a copy.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml  # type: ignore[import-untyped]  # its types are no dependency

from slurm_power import clock
from tests.bridge.place3 import Place, story
from tests.bridge.places import series_of

VARIABLE = "SLURM_POWER_OPENADR3_YAML"


def as_json_schema(part: Any) -> Any:
    """OpenAPI 3.0 has ``nullable`` and draft 4's bounds where JSON schemas have other words."""
    if isinstance(part, list):
        return [as_json_schema(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {
        key: as_json_schema(value)
        for key, value in part.items()
        if key not in ("nullable", "discriminator", "example", "default", "exclusiveMaximum", "format")
        and not (key == "-" and value is None)
    }
    if part.get("nullable") and "type" in found:
        found["type"] = [found["type"], "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    return found


@pytest.mark.slow
@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no copy of the OpenAPI file")
def test_all_that_is_said_fits_the_public_schema(tmp_path: Path) -> None:
    document = yaml.safe_load(Path(os.environ[VARIABLE]).read_text())
    schemas = as_json_schema(document["components"]["schemas"])

    def check(name: str, words: dict[str, Any]) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        jsonschema_rs.validator_for(schema, validate_formats=False).validate(words)

    async def told(place: Place) -> None:
        now = clock.now()
        series_of(place.folder, 8_000.0, now - timedelta(seconds=60), now)
        asked = [{"payloadType": kind} for kind in ("USAGE", "DEMAND", "OPERATING_STATE")]
        place.vtn.put("events", {**place.event(9_000, -50, 40), "reportDescriptors": asked})
        place.vtn.put("events", place.event(-9_000))
        await place.ven.round()
        for kind, rows in place.vtn.objects.items():
            assert rows, kind
        newer = "reportRequest" in schemas
        for kind in ("programs", "events", "reports"):
            for row in place.vtn.objects[kind].values():
                # The test bed's VTN knows one client, whose id stands where 3.1 wants it.
                check(kind[:-1], {"clientID": place.vtn.client_id, **row})
        sent = [(kind, words) for kind, words in place.vtn.posted if kind == "reports" or newer]
        assert {kind for kind, _ in sent} >= {"reports"}
        for kind, words in sent:
            check(f"{kind[:-1]}Request" if newer else kind[:-1], words)
        if not newer:
            check("ven", {"venName": "site-1"})
            check("resource", {"resourceName": "site-1-grid"})

    story(tmp_path, told)
