"""What jobs have used, for their users: rows with a receipt each, final for those that have ended."""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.asked import number
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.model.receipt import receipt_of
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

MOST_IDS = 200
# Records that are looked at for one answer, while the control waits: some milliseconds.
_MOST_LOOKED_AT = 500
_MOST_ANSWER_BYTES = 900_000
_LONGEST_LOOK_SECONDS = 100 * 366 * 86_400.0
_KEYS = (
    *("job_id", "user", "account", "name", "state", "workload", "flex", "gpu_count", "nodes"),
    *("submitted", "started", "ended", "tier"),
)


def jobs(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Rows of jobs by their ids, or of the last ones, the newest first; of other users' none.

    ``cursor`` in the answer is where to go on with the next request; null: that was all. ``currency`` is
    that of each receipt's cost, null where the site does not say.
    """
    return {**_rows(controller, request, caller), "currency": controller.config.supply.currency}


def _rows(controller: "Controller", request: Message, caller: Caller) -> Message:
    job_ids = request.get("job_ids")
    if job_ids is None:
        return _last(controller, request, caller)
    if not isinstance(job_ids, list) or len(job_ids) > MOST_IDS:
        raise RefusedError(f"job_ids: must be a list of {MOST_IDS} at most")
    records = [_record(controller, str(job_id)) for job_id in job_ids]
    return {"jobs": [_row(record) for record in records if _may_see(record, caller)], "cursor": None}


def _last(controller: "Controller", request: Message, caller: Caller) -> Message:
    cursor, since_seconds = number(request, "cursor"), number(request, "since_seconds")
    if since_seconds is None or since_seconds < 0.0:
        raise RefusedError("since_seconds: missing or below 0; say how far to look back")
    since = controller.now() - timedelta(seconds=min(since_seconds, _LONGEST_LOOK_SECONDS))
    page = controller.store.latest_jobs(None if cursor is None else int(cursor), _MOST_LOOKED_AT)
    found: list[dict[str, Any]] = []
    size, recent, last = 0, False, None
    for place, stored in page:
        record = dict(controller.recorder.job_record(str(stored.get("job_id")))) or stored
        last = place
        if not _touches(record, since):
            continue
        recent = True
        if _may_see(record, caller) and record.get("started"):
            row = _row(record)
            size += len(json.dumps(row))
            if size > _MOST_ANSWER_BYTES and found:
                return {"jobs": found, "cursor": place + 1}
            found.append(row)
    # Records come by their last change: after a page of old ones there are only older ones.
    more = len(page) == _MOST_LOOKED_AT and recent
    return {"jobs": found, "cursor": last if more else None}


def _record(controller: "Controller", job_id: str) -> dict[str, Any]:
    return dict(controller.recorder.job_record(job_id)) or controller.store.job(job_id)


def _may_see(record: Message, caller: Caller) -> bool:
    return bool(record) and (caller.sees_all or record.get("user") == caller.user)


def _touches(record: Message, since: datetime) -> bool:
    """Whether a job was there since then; one whose end is not known counts by its start."""
    moment = record.get("ended")
    if moment is None:
        if record.get("state") != "ended":
            return True
        moment = record.get("started") or record.get("submitted")
    return isinstance(moment, str) and datetime.fromisoformat(moment) >= since


def _row(record: Message) -> dict[str, Any]:
    final = record.get("receipt")
    receipt = receipt_of(record) if final is None else None
    return {
        **{key: record.get(key) for key in _KEYS},
        "receipt": final if receipt is None else receipt.as_json(),
        "final": final is not None,
    }
