"""One call of the interface: its endpoint as the table has it, and what the request said."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from slurm_power.model.role import Role
from slurm_power.web.people import Person
from slurm_power.web.problems import RequestError, bad
from slurm_power.web.schema import Schema, problems_of, read_text

if TYPE_CHECKING:
    from slurm_power.web.site import Web

CONFIRM = "X-Slurm-Power-Confirm"
_MOST_BODY_BYTES = 65_536
_BODY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the table that routes, OpenAPI document and reference are made from.

    ``role`` is the least that is needed, None: nothing, not even to have said who one is. ``query``: schemas
    of the query's members, none of them required but those in ``required``; ``body``: of what is sent. A
    ``deed`` changes something of the site: it needs the header that no form of another site can send.
    """

    method: str
    path: str
    name: str
    summary: str
    about: str = ""
    role: Role | None
    do: Callable[["Call"], Awaitable[Any]]
    query: Mapping[str, Schema] = field(default_factory=dict)
    places: Mapping[str, Schema] = field(default_factory=dict)
    body: Schema | None = None
    answer: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})
    deed: bool = False
    status: int = 200
    fails: tuple[int, ...] = ()


@dataclass(slots=True)
class Call:
    """A request whose caller may make it and whose fields are as they should be."""

    web: "Web"
    endpoint: Endpoint
    request: Request
    person: Person
    query: dict[str, Any]
    places: dict[str, str]
    body: dict[str, Any]

    @property
    def packed(self) -> bool:
        """Whether the caller takes gzip."""
        return takes_gzip(self.request)


def takes_gzip(request: Request) -> bool:
    """Whether a request says that it takes gzip."""
    words = request.headers.get("accept-encoding", "").lower().split(",")
    return any(
        word.split(";")[0].strip() == "gzip" and not word.replace(" ", "").endswith(";q=0") for word in words
    )


async def read_call(web: "Web", endpoint: Endpoint, request: Request, person: Person) -> Call:
    """Read and check all fields; raises RequestError with everything that is wrong with them."""
    problems: list[str] = []
    places = {key: str(value) for key, value in request.path_params.items()}
    for key, schema in endpoint.places.items():
        problems += problems_of(places[key], schema, key)
    query = _query(endpoint, request, problems)
    body = await _body(endpoint, request, problems)
    if endpoint.deed and request.headers.get(CONFIRM, "").lower() != "yes":
        problems.append(f"{CONFIRM}: missing; send it with the value yes")
    if problems:
        raise bad(problems)
    return Call(web, endpoint, request, person, query, places, body)


def _query(endpoint: Endpoint, request: Request, problems: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in request.query_params.multi_items():
        if key not in endpoint.query:
            known = ", ".join(endpoint.query) or "none"
            problems.append(f"{key[:40]}: unknown; known here: {known}")
        elif key in found:
            problems.append(f"{key}: given twice")
        else:
            found[key] = read_text(text, endpoint.query[key])
            problems += problems_of(found[key], endpoint.query[key], key)
    return found


async def _body(endpoint: Endpoint, request: Request, problems: list[str]) -> dict[str, Any]:
    if endpoint.body is None:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(415, "send JSON, with Content-Type: application/json")
    data = await _bounded(request)
    try:
        body = json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise bad([f"body: no JSON: {error}"]) from None
    if not isinstance(body, dict):
        raise bad(["body: must be an object"])
    problems += problems_of(body, endpoint.body, "body")
    return body


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


async def _bounded(request: Request) -> bytes:
    """The body, if it is short and comes in time; raises RequestError."""
    data = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > _MOST_BODY_BYTES:
                    raise RequestError(
                        413, f"longer than {_MOST_BODY_BYTES} bytes", headers={"Connection": "close"}
                    )
    except TimeoutError:
        raise RequestError(408, "the request did not come in time", headers={"Connection": "close"}) from None
    return bytes(data)


def answer_of(found: Any, endpoint: Endpoint) -> Any:
    """What an endpoint returned as an ASGI answer."""
    if isinstance(found, dict):
        return JSONResponse(found, status_code=endpoint.status, headers={"Cache-Control": "no-store"})
    return found
