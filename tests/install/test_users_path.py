"""docs/users.md, followed literally by a user of a lab with power."""

import pytest

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT
from tests.install.followed import first_missing, follow, steps
from tests.install.shells import shells

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]
INSTALLED = "/opt/slurm-power/share/slurm-power"


def test_a_user_gets_there(power_lab: Lab) -> None:
    run = shells(power_lab)
    follow((CHECKOUT / "docs/users.md").read_text().replace(INSTALLED, str(CHECKOUT)), run)


def test_a_document_that_is_wrong_is_found() -> None:
    assert first_missing(["Submitted batch job 1"], "Submitted batch job 4711\n") is None
    assert first_missing(["a 1.5 kW", "...", "c"], "x\na   27.0 kW\nb\nc\n") is None
    assert first_missing(["c", "a"], "a\nc\n") == "a"
    assert first_missing(["held for 5 s: ..."], "held for 5 s\n") == "held for 5 s: ..."
    documents = [steps((CHECKOUT / f"docs/{name}.md").read_text()) for name in ("users", "admins")]
    assert all(len(document) >= 10 for document in documents)
    assert all(sum(bool(step.shown) for step in document) >= 6 for document in documents)
