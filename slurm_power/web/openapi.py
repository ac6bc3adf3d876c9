"""The OpenAPI 3.1 document of the interface, made from the table of its endpoints."""

from collections.abc import Iterable, Mapping
from typing import Any

from slurm_power import __version__
from slurm_power.web.calls import CONFIRM, Endpoint
from slurm_power.web.people import COOKIE

_ERROR_WORDS = {
    400: "A field is missing, unknown or not as it should be; `problems` has all of them",
    401: "Nobody is logged in, or the proof is wrong",
    403: "The role does not reach",
    404: "There is no such thing",
    408: "The request did not come in time",
    413: "The body is too long",
    415: "The body is no JSON",
    421: "powerweb does not answer under the name that was asked for",
    422: "powerctld does not do it; `problems` has all reasons",
    429: "Too many wrong proofs at once",
    503: "powerctld, or what it wrote, cannot be read now",
}
_ABOUT = f"""The HTTP interface of slurm-power.

Programs send `Authorization: Bearer TOKEN` (`slurm-power web token`), browsers a session cookie. Whatever
changes something needs the header `{CONFIRM}: yes` and a reason. Units stand in the names: `_watts`,
`_seconds`, `_ratio` (1 is all).
"""


def openapi(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": "slurm-power", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {
                        "error": {"type": "string"},
                        "problems": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["error", "problems"],
                }
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def errors_of(one: Endpoint) -> list[int]:
    """The statuses that an endpoint may fail with."""
    found = {400, 421, 503, *one.fails}
    if one.role is not None:
        found |= {401, 403, 429}
    if one.body is not None:
        found |= {408, 413, 415}
    return sorted(found)


def _operation(one: Endpoint) -> dict[str, Any]:
    parameters = [_parameter(name, "path", schema, required=True) for name, schema in one.places.items()]
    parameters += [_parameter(name, "query", schema) for name, schema in one.query.items()]
    if one.deed:
        parameters.append(_parameter(CONFIRM, "header", {"type": "string", "enum": ["yes"]}, required=True))
    kinds = one.answer if "text/event-stream" in one.answer else {"application/json": one.answer}
    answers: dict[str, Any] = {
        str(one.status): {
            "description": "done" if one.deed else "what was asked for",
            "content": {kind: {"schema": schema} for kind, schema in kinds.items()},
        }
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in errors_of(one):
        answers[str(status)] = {"description": _ERROR_WORDS[status], "content": error}
    operation: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "description": f"{one.about}\n\nLeast role: {one.role or 'none'}.".strip(),
        "parameters": parameters,
        "responses": answers,
        "security": [] if one.role is None else [{"token": []}, {"session": []}],
    }
    if one.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": one.body}}}
    return operation


def _parameter(name: str, place: str, schema: Mapping[str, Any], *, required: bool = False) -> dict[str, Any]:
    words = {key: value for key, value in schema.items() if key != "description"}
    about = {"description": schema["description"]} if "description" in schema else {}
    return {"name": name, "in": place, "required": required, "schema": words, **about}
