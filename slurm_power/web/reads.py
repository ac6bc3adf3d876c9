"""Endpoints that only look: the picture, what comes, what is planned, what was."""

import asyncio
from typing import Any

from starlette.responses import Response

from slurm_power.model.forecast import Reach
from slurm_power.powerctld_line import LineError, LineRefusedError
from slurm_power.web import cut
from slurm_power.web.asking import plain
from slurm_power.web.calls import Call
from slurm_power.web.pictures import gzip_of
from slurm_power.web.problems import RequestError, refused
from slurm_power.web.stored import StoredError
from slurm_power.web.stream import FullError

# What hardly changes within a second is asked once for all who ask.
_KEEP_SECONDS = 2.0
_KEEP_FORECAST_SECONDS = 4.0
_KEEP_PRICES_SECONDS = 5.0
_KEEP_CHAIN_SECONDS = 10.0
_AFTER_ALL = 10**12


async def question(
    call: Call, op: str, *, keep_seconds: float = _KEEP_SECONDS, own: bool = True, **words: Any
) -> dict[str, Any]:
    """Ask powerctld on the caller's behalf; raises RequestError.

    Without ``own`` the answer is the same for everybody, or is cut here, and is asked for once for all.
    """
    message = {"op": op, **words, **({"for": call.person.message()} if own else {})}
    try:
        return plain(await call.web.asking.question(message, keep_seconds=keep_seconds))
    except LineRefusedError as error:
        raise refused(str(error)) from None


async def live(call: Call) -> Response:
    """The picture, in as few bytes as the caller takes."""
    turn = await call.web.pictures.now(call.person)
    if turn is None:
        raise RequestError(503, f"there is no picture: {call.web.pictures.problem or 'it is too old'}")
    shared, more = turn.parts(call.person)
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if call.packed:
        return Response(
            gzip_of(shared, more),
            media_type="application/json",
            headers={**headers, "Content-Encoding": "gzip"},
        )
    return Response(shared.plain + more.plain, media_type="application/json", headers=headers)


async def stream(call: Call) -> Any:
    """The same once a second."""
    try:
        return call.web.streams.open(
            call.person, packed=call.packed, prove=lambda: call.web.people.of(call.request)
        )
    except FullError as error:
        raise RequestError(503, str(error), headers={"Retry-After": "30"}) from None


async def history(call: Call) -> dict[str, Any]:
    """What a circuit drew."""
    circuit = call.query.get("circuit", call.web.config.site.root.name)
    if circuit not in call.web.config.site.circuits:
        raise RequestError(404, f"there is no circuit {circuit!r}", [f"circuit: there is no {circuit!r}"])
    found: dict[str, Any] = await _stored(call.web.stored.history(circuit, call.query.get("seconds", 3600.0)))
    return found


async def _stored(found: Any) -> Any:
    try:
        return await found
    except StoredError as error:
        raise RequestError(503, str(error)) from None


async def forecast(call: Call) -> dict[str, Any]:
    """What a circuit will draw; with ``reach`` only one of both forecasts."""
    circuit = call.query.get("circuit", call.web.config.site.root.name)
    if circuit not in call.web.config.site.circuits:
        raise RequestError(404, f"there is no circuit {circuit!r}", [f"circuit: there is no {circuit!r}"])
    answer = await question(call, "forecast", circuit=circuit, keep_seconds=_KEEP_FORECAST_SECONDS, own=False)
    if not call.person.sees_all:
        answer["starts"] = [cut.start(one, call.person.name) for one in answer["starts"]]
    reach = call.query.get("reach")
    if reach is not None:
        for key in ("forecasts", "history", "supply"):
            answer[key] = {name: one for name, one in answer[key].items() if name == reach}
    return answer


async def plan(call: Call) -> dict[str, Any]:
    """What is being done now, and at which price."""
    prices = await question(call, "plan", explain=True, own=False, keep_seconds=_KEEP_PRICES_SECONDS)
    if call.person.sees_all:
        return prices
    # Prices are worked out once for all; what concerns the caller costs powerctld little.
    mine = await question(call, "plan")
    return cut.plan(mine, prices, call.person.name)


async def ledger(call: Call) -> dict[str, Any]:
    """Entries that the caller may see."""
    seen_by = None if call.person.sees_all else call.person.name
    found: dict[str, Any] = await _stored(call.web.stored.ledger(visible_to=seen_by, **call.query))
    return found | await _chain(call)


async def _chain(call: Call) -> dict[str, Any]:
    """What powerctld knows of the whole chain; nothing while it does not answer."""
    try:
        answer = await question(
            call, "ledger", after_sequence=_AFTER_ALL, keep_seconds=_KEEP_CHAIN_SECONDS, own=False
        )
    except LineError:
        return {"broken_at_sequence": None, "checked_sequence": None}
    return {key: answer[key] for key in ("broken_at_sequence", "checked_sequence")}


async def sources(call: Call) -> dict[str, Any]:
    """Everything that is measured."""
    answer = await question(call, "sources", own=False)
    if call.person.sees_all:
        return answer
    return {**answer, "sources": cut.reasons(answer["sources"])}


async def events(call: Call) -> dict[str, Any]:
    """Coming, running and past events."""
    return await question(call, "events", own=False)


async def event_report(call: Call) -> dict[str, Any]:
    """What came of an event."""
    return await question(call, "event_report", event_id=call.places["event_id"])


async def why(call: Call) -> dict[str, Any]:
    """What was done to a job, and why."""
    job_id = call.places["job_id"]
    seen_by = None if call.person.sees_all else call.person.name
    record, found = await asyncio.gather(
        question(call, "job", job_id=job_id),
        _stored(call.web.stored.ledger(visible_to=seen_by, job=job_id)),
    )
    if not record["record"] and not found["entries"]:
        # Whether somebody else's job is there is nobody's business.
        raise RequestError(404, f"nothing is known of a job {job_id} of yours")
    return {"job_id": job_id, "job": record["record"], "entries": found["entries"], "more": found["more"]}


async def savings(call: Call) -> dict[str, Any]:
    """What this month came to."""
    found: dict[str, Any] = await _stored(call.web.stored.savings())
    return found


async def policy(call: Call) -> dict[str, Any]:
    """The site's rules."""
    return await question(call, "policy", own=False)


async def health(call: Call) -> dict[str, Any]:
    """Whether powerweb answers, and whether powerctld does."""
    return {"ok": True, "powerctld": not call.web.pictures.problem, "streams": call.web.streams.count}


REACHES = [reach.value for reach in Reach]
