"""What the documents name exists: links, files, make targets, commands and their options."""

import re
from pathlib import Path

import click
import pytest

from slurm_power.cli.slurm_power import main as slurm_power

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]
FOLDERS = ("slurm_power", "prolog_epilog", "spank", "containers", "tests", "batch_templates", "docs")
# Folders of the machines the project is made on, and hosts of registries: nothing a reader has.
FOREIGN = re.compile(r"pypi\.org|files\.pythonhosted|artifactory", re.IGNORECASE)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)


def anchors(document: Path) -> set[str]:
    """The fragments that a document's headings can be reached by."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@each_document
def test_internal_links_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{target}: no such file"
        assert not fragment or fragment in anchors(file), f"{target}: no such heading"


@each_document
def test_named_files_exist(document: Path) -> None:
    found = re.findall(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)", document.read_text())
    # Built here by a command that stands beside the name.
    built = {"spank/slurm_power.so"}
    missing = [name for name in found if name not in built and not (ROOT / name).exists()]
    assert not missing


@each_document
def test_named_functions_exist(document: Path) -> None:
    """A name that stands behind a file, as in `file.py`, `function`, is in that file."""
    pairs = re.findall(r"`([\w/]+\.(?:py|c|lua))`(?:, | \()`(\w+)`", document.read_text())
    missing = [pair for pair in pairs if not re.search(rf"\b{pair[1]}\b", (ROOT / pair[0]).read_text())]
    assert not missing


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    named = set(re.findall(r"`make ([a-z][a-z-]*)", text)) | set(
        re.findall(r"^ {4}make ([a-z][a-z-]*)", text, re.MULTILINE)
    )
    assert named <= targets


@each_document
def test_slurm_power_commands_and_options_exist(document: Path) -> None:
    assert isinstance(slurm_power, click.Group)
    for line in re.findall(r"(?:`|^ {4}|-- )slurm-power (?!&&)([^`\n]+)", document.read_text(), re.MULTILINE):
        name, *words = line.partition("#")[0].split() or [""]
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            continue
        command = slurm_power.commands.get(name)
        assert command is not None, f"slurm-power {line}: no such command"
        while isinstance(command, click.Group) and words:
            name = words.pop(0)
            command = command.get_command(click.Context(command), name)
            assert command is not None, f"slurm-power {line}: no such command"
        known = {option for parameter in command.params for option in parameter.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"slurm-power {line}"


@each_document
def test_nothing_foreign_is_named(document: Path) -> None:
    assert not FOREIGN.search(document.read_text())


def test_every_command_of_slurm_power_is_documented() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    assert isinstance(slurm_power, click.Group)
    assert not [name for name in slurm_power.commands if f"slurm-power {name}" not in text]


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    listed = re.findall(r"\]\(([\w-]+\.md)\)", index)
    pages = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")
    assert sorted(set(listed)) == pages
    assert len(listed) == len(set(listed)), "a page is listed twice"
