"""What is done beside the control in a cycle: what goes wrong there costs its own result, never a cycle."""

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Beside:
    """Runs what is no control; ``fault`` is told when something of it goes wrong, and when it is well."""

    def __init__(self, fault: Callable[[str, str], None]) -> None:
        self._fault = fault
        self._broken: dict[str, str] = {}

    def do(self, name: str, step: Callable[[], None]) -> None:
        """Run a step; the same error again is told once."""
        try:
            step()
        except Exception as error:
            log.error("%s went wrong", name, exc_info=error)
            text = f"{type(error).__name__}: {error}"
            if self._broken.get(name) != text:
                self._broken[name] = text
                self._fault(name, f"it went wrong: {text}")
        else:
            if self._broken.pop(name, ""):
                self._fault(name, "")
