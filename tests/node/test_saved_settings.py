"""The save file: whole or salvaged, never lost."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.lease import LeaseKey, Lever
from slurm_power.model.site import LimitKind
from slurm_power.node.saved_settings import SavedSetting, SavedSettings, this_boot


def cap_of(uuid: str) -> LeaseKey:
    return LeaseKey(uuid, Lever.POWER_CAP)


def uuids_of(found: Iterable[LeaseKey]) -> list[str]:
    return [key.uuid for key in found]


def setting(uuid: str, previous_watts: float = 700.0) -> SavedSetting:
    return SavedSetting(
        uuid=uuid,
        previous=previous_watts,
        bound=400.0,
        kind=LimitKind.SAFETY,
        lease_id="L",
        boot_id=this_boot(),
        safe=350.0,
        job_id="7",
    )


def test_what_was_put_is_read_back_by_another(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    assert saved.load() == {}
    records = {cap_of(uuid): setting(uuid, 700.0 - number) for number, uuid in enumerate(("a", "b", "c"))}
    for record in records.values():
        saved.put(record)
    assert SavedSettings(tmp_path).load() == records == saved.records()
    saved.drop(cap_of("b"))
    saved.drop(cap_of("unknown"))
    assert uuids_of(SavedSettings(tmp_path).load()) == ["a", "c"]


@pytest.mark.parametrize("previous_hertz", [math.inf, 1.2e9])
def test_a_cap_and_a_clock_lock_of_one_gpu_have_a_record_each(tmp_path: Path, previous_hertz: float) -> None:
    saved = SavedSettings(tmp_path)
    lock = replace(setting("a"), lever=Lever.CLOCK_LOCK, previous=previous_hertz, bound=9e8, safe=None)
    saved.put(setting("a"))
    saved.put(lock)
    assert SavedSettings(tmp_path).load() == {cap_of("a"): setting("a"), lock.key: lock}
    assert '"lock_hertz": 900000000.0' in saved.file.read_text()
    saved.drop(cap_of("a"))
    assert SavedSettings(tmp_path).load() == {lock.key: lock}


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
    assert uuids_of(found) == ["a", "b", "c"][:whole]
    assert all(record == setting(key.uuid) for key, record in found.items())
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
        ('{"records": [{"uuid": "a", "lever": "clock_lock", "lock_hertz": 9e8}]}', []),
    ],
)
def test_a_damaged_file_is_kept_aside_and_its_sound_records_used(
    tmp_path: Path, text: str, uuids: list[str]
) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.write_text(text)
    assert uuids_of(saved.load()) == uuids
    assert saved.file.with_suffix(".corrupt").read_text() == text


def test_a_record_without_its_extras_is_used(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.write_text('{"records": [{"uuid": "a", "previous_watts": 500}]}')
    record = saved.load()[cap_of("a")]
    assert (record.previous, record.bound, record.kind) == (500.0, 500.0, LimitKind.ECONOMIC)
    assert not saved.file.with_suffix(".corrupt").exists()


def test_a_disk_that_takes_nothing_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    saved = SavedSettings(folder)
    saved.put(setting("a"))
    folder.rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        saved.put(replace(setting("a"), bound=300.0))
    with pytest.raises(OSError, match="No such file"):
        saved.drop(cap_of("a"))
    assert saved.records() == {cap_of("a"): setting("a")}


def test_an_unreadable_file_is_no_empty_file(tmp_path: Path) -> None:
    saved = SavedSettings(tmp_path)
    saved.file.mkdir()
    with pytest.raises(IsADirectoryError):
        saved.load()
