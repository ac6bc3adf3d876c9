"""The table of all endpoints: routes, roles, checks, the OpenAPI document and the reference come from it."""

from typing import Any

from slurm_power.model.role import Role
from slurm_power.web import accounts, deeds, reads
from slurm_power.web.calls import Endpoint
from slurm_power.web.schema import a_list, an_object, boolean, integer, number, text

ROOT = "/api/v1"

_ID = r"^[A-Za-z0-9_.\[\],%+-]{1,64}$"
# Something that is seen: what counts as space beside that is not the same in every dialect of patterns.
_SEEN = r"[^\s\u0000-\u001f\u007f-\u009f]"
_REASON = text(minLength=1, maxLength=500, pattern=_SEEN, description="why, in words that users will read")
_CIRCUIT = text(
    minLength=1, maxLength=200, description="a circuit of site.toml; the grid connection if left out"
)
_TICKET = text(minLength=10, maxLength=200, description="what `slurm-power web login` printed")
_A_DAY, _A_YEAR = 86_400.0, 366 * 86_400.0


def _answer(**properties: dict[str, Any]) -> dict[str, Any]:
    """What an answer has at least."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_LIST: dict[str, Any] = {"type": "array", "items": {"type": "object"}}
_PICTURE = _answer(
    at={"type": "string"},
    site={"type": "string"},
    mode={"type": "string"},
    standing=_answer(safe={"type": "boolean"}, word={"type": "string"}, headline={"type": "string"}),
    circuits=_LIST,
    ess=_LIST,
    jobs=_LIST,
    events=_LIST,
    you=_answer(name={"type": "string"}, role={"type": "string"}),
)
_COLUMN: dict[str, Any] = {"type": "array", "items": {"type": ["number", "null"]}}
_HISTORY = _answer(
    circuit={"type": "string"},
    seconds={"type": "number"},
    step_seconds={"type": "number"},
    at_seconds={"type": "array", "items": {"type": "number"}},
    watts=_COLUMN,
    limit_watts=_COLUMN,
    natural_watts=_COLUMN,
    discharge_watts=_COLUMN,
    soc_ratio=_COLUMN,
)
_EVENT = an_object(
    ("circuit", "duration_seconds", "reason"),
    circuit=text(minLength=1, maxLength=200),
    limit_watts=number(
        minimum=0.0, maximum=1e12, description="the most that it may draw, or one of both cuts"
    ),
    cut_ratio=number(
        exclusiveMinimum=0.0, maximum=1.0, description="less than its load before by this share"
    ),
    cut_watts=number(exclusiveMinimum=0.0, maximum=1e12, description="less than its load before by this"),
    start_in_seconds=number(minimum=0.0, maximum=_A_YEAR),
    duration_seconds=number(exclusiveMinimum=0.0, maximum=_A_YEAR),
    ramp_seconds=number(minimum=0.0, maximum=_A_DAY),
    recover_seconds=number(minimum=0.0, maximum=_A_DAY),
    commitment=text(enum=["must", "best-effort"]),
    baseline=text(enum=["notice", "start"]),
    reason=_REASON,
)
_WEIGHTS: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {
        "account_weights": a_list(
            text(minLength=3, maxLength=200, description="ACCOUNT=WEIGHT"), maxItems=1000
        )
    },
    "required": [],
    "additionalProperties": number(minimum=0.0, maximum=1e9),
    "description": "weights by the name they have in [policy]; null goes back to site.toml's",
}
_LOGGED_IN = _answer(name={"type": "string"})


def _get(
    path: str, name: str, summary: str, do: Any, role: Role | None = Role.VIEWER, **more: Any
) -> Endpoint:
    return Endpoint(method="GET", path=ROOT + path, name=name, summary=summary, do=do, role=role, **more)


def _deed(method: str, path: str, name: str, summary: str, do: Any, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path=ROOT + path,
        name=name,
        summary=summary,
        do=do,
        role=Role.OPERATOR,
        deed=True,
        fails=(422, *more.pop("fails", ())),
        **more,
    )


TABLE: tuple[Endpoint, ...] = (
    _get(
        "/live",
        "live",
        "The picture of the site now",
        reads.live,
        answer=_PICTURE,
        about="What the dashboard shows. Auditors and operators see all jobs; others see jobs of their own,"
        " and the rest summed up as `others`. It is taken once a second; none older than 10 s is given.",
    ),
    _get(
        "/stream",
        "stream",
        "The same once a second, as server-sent events",
        reads.stream,
        answer={"text/event-stream": {"type": "string"}},
        about="`event: site` has the picture; `event: away` says why there is none; `event: bye` comes before"
        " a clean end. Each picture is whole, so that nothing is missed by coming back.",
    ),
    _get(
        "/history",
        "history",
        "What a circuit drew, column by column",
        reads.history,
        query={
            "circuit": _CIRCUIT,
            "seconds": number(minimum=60.0, maximum=_A_YEAR, description="how far back; an hour if left out"),
        },
        answer=_HISTORY,
        fails=(404,),
        about="At most 2,000 points: each second up to half an hour back, each minute up to two days, else"
        " each quarter of an hour. `natural_watts` is the load without batteries and caps.",
    ),
    _get(
        "/forecast",
        "forecast",
        "What a circuit will draw",
        reads.forecast,
        query={"circuit": _CIRCUIT, "reach": text(enum=reads.REACHES)},
        fails=(404,),
        about="As `slurm-power forecast --json`. Of others' jobs that will start only the watts are told.",
    ),
    _get("/plan", "plan", "What is being done, and what the next step would cost", reads.plan),
    _get(
        "/ledger",
        "ledger",
        "What was decided, by whom and why",
        reads.ledger,
        query={
            "after": integer(minimum=0, maximum=10**12, description="sequence; alone: the oldest after it"),
            "before": integer(minimum=0, maximum=10**12, description="sequence; the newest before it"),
            "job": text(minLength=1, maxLength=64),
            "kind": text(minLength=1, maxLength=64),
            "most": integer(minimum=1, maximum=1000, description="100 if left out"),
        },
        answer=_answer(entries=_LIST, more={"type": "boolean"}),
        about="Users see entries about their own jobs and services, and those about nobody's."
        " Oldest first within the answer.",
    ),
    _get("/sources", "sources", "Everything that is measured, and how well", reads.sources),
    _get("/events", "events", "Coming, running and past events", reads.events, answer=_answer(events=_LIST)),
    _get(
        "/events/{event_id}/report",
        "event_report",
        "What came of an event",
        reads.event_report,
        places={"event_id": text(pattern=_ID, minLength=1, maxLength=64)},
        fails=(404, 422),
    ),
    _get(
        "/jobs/{job_id}/why",
        "why",
        "What was done to a job, and why",
        reads.why,
        role=Role.USER,
        places={"job_id": text(pattern=_ID, minLength=1, maxLength=64)},
        answer=_answer(job_id={"type": "string"}, job={"type": "object"}, entries=_LIST),
        fails=(404, 422),
    ),
    _get("/savings", "savings", "What this month came to", reads.savings),
    _get("/policy", "policy", "The site's rules, in words and numbers", reads.policy, fails=(422,)),
    _get(
        "/me",
        "me",
        "Who you are here, and which endpoints you may use",
        accounts.me,
        answer=_answer(
            name={"type": "string"},
            role={"type": "string"},
            may={"type": "array", "items": {"type": "string"}},
        ),
    ),
    _deed(
        "POST",
        "/events",
        "add_event",
        "Lower a circuit's limit for a while",
        deeds.add_event,
        body=_EVENT,
        status=201,
        answer=_answer(event_id={"type": "string"}),
    ),
    _deed(
        "DELETE",
        "/events/{event_id}",
        "cancel_event",
        "End an event at once, or let its recovery begin",
        deeds.cancel_event,
        body=an_object(("reason",), reason=_REASON, recover=boolean()),
        places={"event_id": text(pattern=_ID, minLength=1, maxLength=64)},
        fails=(404,),
    ),
    _deed(
        "POST",
        "/control",
        "control",
        "Switch control off, pause it for a time, or resume it",
        deeds.control,
        body=an_object(
            ("enabled", "reason"),
            enabled=boolean(),
            for_seconds=number(minimum=1.0, maximum=31 * 86_400.0),
            reason=_REASON,
        ),
    ),
    _deed(
        "POST",
        "/release",
        "release",
        "Give all caps, holds, pauses and setpoints back now",
        deeds.release,
        body=an_object(("reason",), reason=_REASON, safety_too=boolean()),
    ),
    _deed(
        "PUT",
        "/weights",
        "weights",
        "Weigh anew what levers cost",
        deeds.weights,
        body=an_object(("weights", "reason"), weights=_WEIGHTS, reason=_REASON),
        about="Kept over restarts until `weights` is null again.",
    ),
    Endpoint(
        method="POST",
        path=f"{ROOT}/login",
        name="login",
        summary="Begin a session with the ticket of `slurm-power web login`",
        role=None,
        do=accounts.login,
        body=an_object(("ticket",), ticket=_TICKET),
        answer=_LOGGED_IN,
        fails=(403,),
    ),
    Endpoint(
        method="POST",
        path=f"{ROOT}/logout",
        name="logout",
        summary="End the session",
        role=None,
        do=accounts.logout,
    ),
    Endpoint(
        method="GET",
        path=f"{ROOT}/healthz",
        name="healthz",
        summary="Whether powerweb answers, and whether it hears powerctld",
        role=None,
        do=reads.health,
        answer=_answer(ok={"type": "boolean"}, powerctld={"type": "boolean"}),
    ),
)
# For browsers: no part of the interface for programs.
PAGES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET",
        path="/login",
        name="login_page",
        summary="The link that `slurm-power web login` prints",
        role=None,
        do=accounts.login_page,
        query={"ticket": _TICKET},
        fails=(403,),
    ),
)
