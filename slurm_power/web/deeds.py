"""Endpoints that change something: each by an operator, with a reason, and in the ledger."""

import logging
from typing import Any

from slurm_power.powerctld_line import LineRefusedError
from slurm_power.web.asking import plain
from slurm_power.web.calls import Call
from slurm_power.web.problems import refused

log = logging.getLogger(__name__)


async def _deed(call: Call, op: str, **words: Any) -> dict[str, Any]:
    """Have powerctld do it on the caller's behalf; raises RequestError in powerctld's words."""
    log.info("%s by %s (%s)", op, call.person.name, call.person.proof)
    try:
        answer = await call.web.asking.deed({"op": op, **words, "for": call.person.message()})
    except LineRefusedError as error:
        raise refused(str(error)) from None
    finally:
        call.web.asking.forget()
    return plain(answer)


async def add_event(call: Call) -> dict[str, Any]:
    """Lower a circuit's limit for a while."""
    return await _deed(call, "event", **call.body)


async def cancel_event(call: Call) -> dict[str, Any]:
    """End an event."""
    return await _deed(call, "cancel_event", event_id=call.places["event_id"], **call.body)


async def control(call: Call) -> dict[str, Any]:
    """Pause the automation, or let it go on."""
    return await _deed(call, "control", **call.body)


async def release(call: Call) -> dict[str, Any]:
    """Give everything back now."""
    return await _deed(call, "release_all", **call.body)


async def weights(call: Call) -> dict[str, Any]:
    """Weigh anew what levers cost."""
    return await _deed(call, "weights", **call.body)
