"""Another maker's client as the utility: it announces, our VEN follows and reports, and it reads the reports.

Needs ``openadr3`` (https://pypi.org/project/openadr3), no dependency of ours: an alpha version, and heavy.
"""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_power import clock
from tests.bridge.place3 import DESCRIPTORS, SECRET, Place, story
from tests.bridge.places import series_of

api = pytest.importorskip("openadr3.api", reason="openadr3 is not installed")
raw = pytest.importorskip("openadr3.entities.raw", reason="openadr3 is not installed")


def test_another_maker_s_client_and_our_ven_understand_each_other(tmp_path: Path) -> None:
    async def told(place: Place) -> None:
        now = clock.now()
        series_of(place.folder, 8_000.0, now - timedelta(seconds=60), now)
        with api.OpenADRClient(place.url) as utility:
            await asyncio.to_thread(utility.fetch_token, place.vtn.client_id, SECRET)
            program = {"programName": "others", "payloadDescriptors": DESCRIPTORS}
            made = await asyncio.to_thread(utility.create_program, program)
            event = raw.RawEvent.model_validate(
                {
                    **place.event(9_000, -50, 40),
                    "programID": made.json()["id"],
                    "objectType": "EVENT",
                    "reportDescriptors": [{"payloadType": kind} for kind in ("USAGE", "DEMAND")],
                }
            )
            posted = event.model_dump(by_alias=True, exclude_none=True)
            announced = await asyncio.to_thread(utility.create_event, posted)
            assert announced.status_code == 201, announced.text
            second = raw.RawEvent.model_validate({**place.event(8_000), "programID": made.json()["id"]})
            words = second.model_dump(by_alias=True, exclude_none=True)
            assert (await asyncio.to_thread(utility.create_event, words)).status_code == 201
            assert await place.ven.round() == []
            assert [row[0] for row in place.powerctld.standing()] == [8_000.0]
            reports = await asyncio.to_thread(utility.reports, eventID=announced.json()["id"])
            assert {one.resources[0].resource_name for one in reports} == {"site-1-grid"}
            assert len(reports) == 2
            (ven,) = await asyncio.to_thread(utility.vens)
            (resource,) = await asyncio.to_thread(utility.resources)
            assert (ven.ven_name, resource.resource_name) == ("site-1", "site-1-grid")
        sent = {"reports": raw.RawReport, "vens": raw.RawVen, "resources": raw.RawResource}
        assert {kind for kind, _ in place.vtn.posted} >= set(sent)
        for kind, words in place.vtn.posted:
            if kind in sent:
                sent[kind].model_validate(words)

    story(tmp_path, told)
