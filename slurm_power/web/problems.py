"""What goes wrong with a request, as an HTTP answer: a sentence, and all problems at once."""

import re
from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse

# Where files lie is nobody's business who asks over the network; their names help whoever calls for help.
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+")


def without_folders(text: str) -> str:
    """A fault's text with the names of files, and not where they lie."""
    return _FOLDERS.sub("", text)


class RequestError(Exception):
    """A request that is not granted."""

    def __init__(
        self,
        status: int,
        error: str,
        problems: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.error = error
        self.problems = list(problems)
        self.headers = dict(headers or {})
        super().__init__(error)

    def answer(self) -> JSONResponse:
        """The answer that says so."""
        # A fault of ours tells of the machine, and what is wrong with a request is the caller's own.
        told = without_folders(self.error) if self.status >= 500 else self.error
        return JSONResponse(
            {"error": told, "problems": self.problems},
            status_code=self.status,
            headers={"Cache-Control": "no-store", **self.headers},
        )


def bad(problems: Sequence[str]) -> RequestError:
    """A request with fields that cannot be."""
    return RequestError(400, f"the request cannot be read: {problems[0]}", problems)


def refused(text: str) -> RequestError:
    """What powerctld does not do, in its own words: each problem begins with its field."""
    if text.startswith(("there is no event", "nothing is known of an event")):
        return RequestError(404, text, [text])
    if " may not " in text:
        return RequestError(403, text, [text])
    return RequestError(422, text, text.split("; "))
