"""Receipts as they stand in AdminComment: ``{"power": {..., "receipt": {"v": 1, ...}}}``.

sacctmgr turns every quote into a backtick, so in the accounting database it reads ``{`power`:{...}}``; a
backtick or an apostrophe within a text is written as an escape before, and the text comes back as it was.
"""

import json
from typing import Any

from slurm_power.slurm.admin_comment import read_object

KEY = "receipt"


def read_stored(text: str) -> dict[str, Any] | None:
    """The object in an AdminComment out of the accounting database; None for another tool's text."""
    if '"' not in text and "`" in text:
        text = text.replace("`", '"')
    return read_object(text)


def receipt_in(text: str) -> object:
    """What stands as receipt in an AdminComment, None where there is none."""
    return (read_stored(text) or {}).get("power", {}).get(KEY)


def with_receipt(text: str, receipt: dict[str, object]) -> str | None:
    """The AdminComment with a receipt put in or replaced; None where somebody else's is in it.

    Another tool's keys beside ours could be kept, but not their quotes: such a comment stays as it is.
    """
    value = read_stored(text)
    if value is None or not value.keys() <= {"power"}:
        return None
    power = {**value.get("power", {}), KEY: receipt}
    return json.dumps({"power": power}, separators=(",", ":"))


def without_quotes(text: str) -> str:
    """JSON as sacctmgr stores it: backticks for quotes, and none within a text."""
    escaped = text.replace("'", "\\u0027").replace("`", "\\u0060")
    return escaped.replace('"', "`")
