"""What somebody who has proved nothing can cost the controller's TCP side: some time, little memory."""

import asyncio
from contextlib import suppress

import pytest

from containers.faults.controller import Munged
from slurm_power.wire import Message, WireError, encode
from tests.controller.test_nodes import SECONDS, Site, tried


def test_a_stranger_fills_no_memory_and_a_node_may_say_much(munged: Munged) -> None:
    long: Message = {"type": "telemetry", "text": "x" * 300_000}

    async def check(site: Site) -> None:
        with suppress(ConnectionError):
            await site.asked(long)
        await site.until(lambda: len(site.refusals) > 0)
        assert "longer than 65536" in site.refusals[0]
        node = await site.greeted("c1")
        with node.connection:
            await asyncio.to_thread(node.connection.sendall, encode(long))
            await site.until(lambda: site.messages == [("c1", long)])

    tried(munged, check)


def test_a_greeting_that_drips_in_is_cut_off(munged: Munged) -> None:
    async def check(site: Site) -> None:
        context = site.identity("stranger").context()
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=context)

        async def drip() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.5)

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(3 * SECONDS):
                with suppress(ConnectionError):
                    assert await reader.read() == b""
        finally:
            dripping.cancel()
            writer.close()
        assert site.refusals == ["silent"]

    tried(munged, check)


def test_a_renamed_node_or_a_copy_does_not_speak_in_the_other_s_name(munged: Munged) -> None:
    async def check(site: Site) -> None:
        first = await site.greeted("c1", "disk")
        with first.connection, pytest.raises(WireError, match="our certificate is that of 'c1'"):
            await site.greeted("c2", "disk")
        with pytest.raises(WireError, match=r"c2 has the key of c1: remove node\.key"):
            await site.greeted("c2", "disk")
        assert site.links.forget("c1")
        again = await site.greeted("c2", "disk")
        with again.connection:
            assert site.links.connected() == ("c2",)

    tried(munged, check)
