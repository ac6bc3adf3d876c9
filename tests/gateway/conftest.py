"""Nothing of a gateway, of its tests or of the servers that they start may load what learning needs."""

import os
import sys
from collections.abc import Iterator

import pytest

LEARNING = ("torch", "torchao", "sklearn", "transformers", "optuna", "safetensors", "pytorch_lightning")
# Runs in each process that is started here, before its program, as Python's own sitecustomize does.
_REFUSE = f"""
import sys


class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LEARNING!r}:
            raise ImportError(f"{{name}} must not be loaded by a gateway or its tests")


sys.meta_path.insert(0, Refused())
"""


@pytest.fixture(autouse=True)
def nothing_that_learns(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Refuse it in all children, and see that the test itself has not; slow tests may serve models."""
    if request.node.get_closest_marker("slow") is not None:
        yield
        return
    before = set(LEARNING) & sys.modules.keys()  # other tests of the same process may have
    folder = tmp_path_factory.mktemp("refused")
    (folder / "sitecustomize.py").write_text(_REFUSE)
    path = filter(None, (str(folder), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    yield
    loaded = set(LEARNING) & sys.modules.keys() - before
    assert not loaded, f"this test loads {', '.join(sorted(loaded))}"
