"""docs/web-api.md describes each endpoint as the table of routes has it."""

from pathlib import Path

from slurm_power.web.reference import reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "web-api.md"


def test_the_reference_is_the_table() -> None:
    _, found, rest = DOCUMENT.read_text().partition("\n## Reference\n")
    assert found
    assert rest.partition("-->\n\n")[2] == reference(), "see: python -m slurm_power.web.reference"
