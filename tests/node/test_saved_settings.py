"""The save file: whole or salvaged, never lost."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.site import LimitKind
from slurm_power.node.saved_settings import SavedSetting, SavedSettings, this_boot


def setting(uuid: str, previous_watts: float = 700.0) -> SavedSetting:
    return SavedSetting(
        uuid=uuid,
        previous_watts=previous_watts,
        cap_watts=400.0,
        kind=LimitKind.SAFETY,
        lease_id="L",
        boot_id=this_boot(),
        safe_watts=350.0,
        job_id="7",
    )


def test_what_was_put_is_read_back_by_another(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    assert saved.load() == {}
    records = {uuid: setting(uuid, 700.0 - number) for number, uuid in enumerate(("a", "b", "c"))}
    for record in records.values():
        saved.put(record)
    assert SavedSettings(tmp_path).load() == records == saved.records()
    saved.drop("b")
    saved.drop("unknown")
    assert set(SavedSettings(tmp_path).load()) == {"a", "c"}


def test_putting_the_same_again_writes_nothing(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    saved.put(setting("a"))
    before = saved.file.stat()
    saved.put(setting("a"))
    assert saved.file.stat().st_ino == before.st_ino


@given(keep=st.integers(0, 2000))
def test_a_torn_file_gives_all_whole_lines(tmp_path_factory: pytest.TempPathFactory, keep: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    saved = SavedSettings(folder)
    for uuid in ("a", "b", "c"):
        saved.put(setting(uuid))
    text = saved.file.read_text()
    torn = text[:keep]
    saved.file.write_text(torn)
    whole = sum(1 for line in text.splitlines()[1:4] if f"{line.rstrip(',')}" in torn)
    found = SavedSettings(folder).load()
    assert list(found) == ["a", "b", "c"][:whole]
    assert all(record == setting(uuid) for uuid, record in found.items())
    if 0 < keep < len(text) - 1:
        assert saved.file.with_suffix(".corrupt").read_text() == torn


@pytest.mark.parametrize(
    ("text", "uuids"),
    [
        ("\x00\x01 garbage", []),
        ("[]", []),
        ('{"records": 7}', []),
        ('{"records": [7, {"uuid": "a"}, {"uuid": "", "previous_watts": 5}]}', []),
        ('{"records": [{"uuid": "a", "previous_watts": NaN}, {"uuid": "b", "previous_watts": 500}]}', ["b"]),
        ('{"records": [{"uuid": "a", "previous_watts": true}]}', []),
        ('{"records": [{"uuid": "a", "previous_watts": -5}]}', []),
    ],
)
def test_a_damaged_file_is_kept_aside_and_its_sound_records_used(
    tmp_path: Path, text: str, uuids: list[str]
) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.write_text(text)
    assert list(saved.load()) == uuids
    assert saved.file.with_suffix(".corrupt").read_text() == text


def test_a_record_without_its_extras_is_used(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.write_text('{"records": [{"uuid": "a", "previous_watts": 500}]}')
    record = saved.load()["a"]
    assert (record.previous_watts, record.cap_watts, record.kind) == (500.0, 500.0, LimitKind.ECONOMIC)
    assert not saved.file.with_suffix(".corrupt").exists()


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    saved = SavedSettings(folder)
    saved.put(setting("a"))
    folder.rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        saved.put(replace(setting("a"), cap_watts=300.0))
    with pytest.raises(OSError, match="No such file"):
        saved.drop("a")
    assert saved.records() == {"a": setting("a")}


def test_an_unreadable_file_is_no_empty_file(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.mkdir()
    with pytest.raises(IsADirectoryError):
        saved.load()
