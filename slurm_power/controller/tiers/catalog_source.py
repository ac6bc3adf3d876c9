"""The site's catalog of model tiers, read again when its file has changed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from slurm_power.model.tier import Catalog
from slurm_power.tiers.catalog import CatalogError, read_catalog

SUBJECT = "tiers"
_LOOK_SECONDS = 5.0


class CatalogSource:
    """Keeps the last catalog that was right; ``fault`` is told when its file goes wrong and well again."""

    def __init__(self, path: Path, fault: Callable[[str, str], None]) -> None:
        self._path = path
        self._fault = fault
        self._seen: object = None
        self._problem = ""
        self.catalog = Catalog()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Read the file if it is another than before; one that is gone is an empty catalog."""
        found, problem = await asyncio.to_thread(self._read)
        if found is not None:
            self.catalog = found
        if problem != self._problem:
            self._problem = problem
            self._fault(SUBJECT, problem)

    def _read(self) -> tuple[Catalog | None, str]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._seen = None
            return Catalog(), ""
        except OSError as error:
            return None, f"{self._path}: {error.strerror}; the catalog of before counts"
        # Who may read it is changed without its content: chmod moves the change time alone.
        seen = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
        if seen == self._seen:
            return None, self._problem
        self._seen = None  # what could not be read is looked at again, since a disk may fail for a moment
        try:
            catalog = read_catalog(self._path)
        except CatalogError as error:
            return None, f"{error.problems[0]}; the catalog of before counts"
        except Exception as error:  # noqa: BLE001 - whatever is in the file must not end the controller
            return None, f"{self._path}: {type(error).__name__}: {error}; the catalog of before counts"
        self._seen = seen
        return catalog, ""
