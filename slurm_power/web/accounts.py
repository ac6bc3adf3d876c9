"""Endpoints about the caller: who they are, logging in by a one-time link, and logging out."""

import asyncio
import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from slurm_power import clock
from slurm_power.powerctld_line import LineError, LineRefusedError
from slurm_power.web.calls import Call, Endpoint
from slurm_power.web.people import COOKIE, session_cookie
from slurm_power.web.problems import RequestError

log = logging.getLogger(__name__)


async def me(call: Call) -> dict[str, Any]:
    """Who the caller is, and the names of the endpoints that they may use."""
    person = call.person
    table: tuple[Endpoint, ...] = call.web.table
    may = [one.name for one in table if one.role is None or person.role.covers(one.role)]
    return {"name": person.name if person.proof else "", "role": person.role.value, "may": may}


async def login(call: Call) -> Response:
    """A session for whom a ticket proves."""
    secret, name = await _begin(call)
    response = JSONResponse({"name": name}, headers={"Cache-Control": "no-store"})
    _set_cookie(call, response, secret)
    return response


async def _begin(call: Call) -> tuple[str, str]:
    """Redeem the ticket and begin a session; raises RequestError."""
    web = call.web
    ticket = str(call.body.get("ticket") or call.query.get("ticket") or "")
    try:
        found = await web.asking.paced({"op": "web_redeem", "ticket": ticket})
    except LineRefusedError as error:
        await web.throttle.failed()
        raise RequestError(403, str(error), [str(error)]) from None
    except LineError as error:
        raise RequestError(503, str(error)) from None
    name, seconds = str(found["user"]), 3600.0 * web.config.web.session_hours
    secret = await asyncio.to_thread(
        web.keys.begin_session,
        name,
        operator=found.get("operator") is True,
        now_seconds=clock.now().timestamp(),
        seconds=seconds,
    )
    log.info("%s has logged in", name)
    return secret, name


def _set_cookie(call: Call, response: Response, secret: str) -> None:
    response.set_cookie(
        COOKIE,
        secret,
        max_age=round(3600.0 * call.web.config.web.session_hours),
        path="/",
        secure=call.web.config.web.secure,
        httponly=True,
        samesite="strict",
    )


async def login_page(call: Call) -> Response:
    """The link of ``slurm-power web login``: begins a session and shows the dashboard."""
    secret, _ = await _begin(call)
    response = RedirectResponse("./", status_code=303, headers={"Cache-Control": "no-store"})
    _set_cookie(call, response, secret)
    return response


async def logout(call: Call) -> Response:
    """End the session."""
    request: Request = call.request
    secret = session_cookie(request)
    if secret:
        await asyncio.to_thread(call.web.keys.end_session, secret)
        call.web.people.forget("session", secret)
    response = JSONResponse({}, headers={"Cache-Control": "no-store"})
    response.delete_cookie(COOKIE, path="/")
    return response
