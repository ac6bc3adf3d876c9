"""Proving to the dashboard who one is: a one-time ticket for whom the kernel names, redeemed by powerweb."""

from typing import TYPE_CHECKING

from slurm_power import clock
from slurm_power.controller.answers.asked import need_operator
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.answers.web_tickets import VALID_SECONDS, TicketsFullError
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_LONGEST_TICKET = 200


def web_login(controller: "Controller", caller: Caller) -> Message:
    """A ticket for the caller with its link, null without a dashboard; raises RefusedError.

    ``for`` says nothing about who sits at this host.
    """
    if caller.behalf is not None:
        raise RefusedError("web_login: nobody can have a ticket for somebody else")
    try:
        ticket = controller.web_tickets.give(caller.uid, caller.user, clock.monotonic())
    except TicketsFullError as error:
        raise RefusedError(str(error)) from None
    web = controller.config.web
    return {
        "ticket": ticket,
        "user": caller.user,
        "valid_seconds": VALID_SECONDS,
        "url": None if web.listen is None else f"{web.url}/login?ticket={ticket}",
    }


def web_redeem(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Who is behind a ticket, once; only for operators, as which powerweb runs. Raises RefusedError."""
    need_operator(caller, "redeem a ticket")
    ticket = request.get("ticket")
    if not isinstance(ticket, str) or not 0 < len(ticket) <= _LONGEST_TICKET:
        raise RefusedError("ticket: missing or no ticket")
    found = controller.web_tickets.redeem(ticket, clock.monotonic())
    if found is None:
        raise RefusedError("ticket: unknown, used already, or older than a minute; ask for a new link")
    uid, user = found
    return {"uid": uid, "user": user, "operator": Caller(uid).operator}
