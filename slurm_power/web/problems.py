"""What goes wrong with a request, as an HTTP answer: a sentence, and all problems at once."""

from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse


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
        return JSONResponse(
            {"error": self.error, "problems": self.problems}, status_code=self.status, headers=self.headers
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
