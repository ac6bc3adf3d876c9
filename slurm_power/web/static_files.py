"""The files of the dashboard, read once at the start: nothing else on the disk can be asked for."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from slurm_power.web.calls import takes_gzip

DIRECTORY = Path(__file__).parent / "static"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
    "": "text/plain; charset=utf-8",
}
_PACKED_ALREADY = frozenset({".png", ".woff2", ".ico"})
_LEAST_PACKED_BYTES = 500


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    packed: bytes | None
    kind: str
    mark: str


class StaticFiles:
    """Files by the path they are asked for; ``/`` is ``index.html``."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        """Read all files below ``directory`` that a browser may need."""
        self._files: Mapping[str, _File] = {
            f"/{file.relative_to(directory).as_posix()}": _read(file)
            for file in sorted(directory.rglob("*"))
            if file.is_file() and file.suffix in _KINDS and not file.name.startswith(".")
        }

    @property
    def paths(self) -> list[str]:
        """What can be asked for."""
        return ["/", *self._files] if "/index.html" in self._files else list(self._files)

    def answer(self, request: Request) -> Response | None:
        """A file, or that it has not changed; None where there is none of that path."""
        path = request.url.path
        file = self._files.get("/index.html" if path == "/" else path)
        if file is None:
            return None
        # A browser asks each time, and is told in some bytes that nothing has changed.
        headers = {"ETag": file.mark, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if file.mark in {mark.strip() for mark in request.headers.get("if-none-match", "").split(",")}:
            return Response(status_code=304, headers=headers)
        if file.packed is not None and takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            return Response(file.packed, media_type=file.kind, headers=headers)
        return Response(file.data, media_type=file.kind, headers=headers)


def _read(file: Path) -> _File:
    data = file.read_bytes()
    packed = None
    if file.suffix not in _PACKED_ALREADY and len(data) >= _LEAST_PACKED_BYTES:
        packed = gzip.compress(data, 9, mtime=0)
    return _File(data, packed, _KINDS[file.suffix], f'"{hashlib.sha256(data).hexdigest()[:32]}"')
