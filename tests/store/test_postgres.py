"""The ledger contract on PostgreSQL, started here on a Unix socket, and what happens when it is away."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from containers.faults.node import wait_until as until
from slurm_power.config.store import StoreConfig
from slurm_power.ports import StoreError
from slurm_power.store.mirror import MirroredStore, take_over
from slurm_power.store.places import LEDGER_NAME, open_store
from slurm_power.store.postgres import PostgresStore
from slurm_power.store.schema import NewerSchemaError
from slurm_power.store.sqlite import SqliteStore
from tests.store.contract_ledger import LedgerContract, Place, entry
from tests.store.test_sqlite import InAFile

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
# It refuses to run as root.
USER: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Postgres:
    """A PostgreSQL with a folder of its own; no TCP."""

    def __init__(self) -> None:
        assert PROGRAMS, "install the package postgresql"
        self._programs = PROGRAMS[-1].parent
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-power-pg-"))
        self._data = self.folder / "data"
        if USER:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._run("initdb", "-D", str(self._data), "-U", "power", "-A", "trust", "--no-sync", "-E", "UTF8")
        self._server: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [self._programs / program, *words], cwd=self.folder, check=True, capture_output=True, **USER
        )

    def start(self) -> None:
        # What it has written outlives it in the kernel, also when it is killed: only a disk's pace is gone.
        words = ["-D", str(self._data), "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", *words], cwd=self.folder, stdout=log, stderr=log, **USER
            )
        deadline = time.monotonic() + 60.0
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.05)

    def url(self, database: str) -> str:
        return f"postgresql://power@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The address of an empty database."""
        self._databases += 1
        name = f"site{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def kill(self) -> None:
        """As a power cut does it; its children see it go and end."""
        assert self._server is not None
        self._server.kill()
        self._server.wait(30.0)
        until(lambda: not self._children(), "the end of its children")
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _children(self) -> list[int]:
        found = []
        for status in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if status.readlink() == self._data:
                    found.append(int(status.parent.name))
            except OSError:
                continue
        return found

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Alive, but answering nobody."""
        processes = self._children()
        self._signal(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(processes, signal.SIGCONT)

    @staticmethod
    def _signal(processes: list[int], number: signal.Signals) -> None:
        for pid in processes:
            with suppress(ProcessLookupError):  # a connection's process ends with it
                os.kill(pid, number)

    def stop(self) -> None:
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)  # nothing, if it was killed
        self._server.wait(30.0)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.stop()


class InADatabase(Place):
    def __init__(self, url: str) -> None:
        self.url = url

    def open(self) -> PostgresStore:
        return PostgresStore(self.url)

    def tamper(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)


class TestPostgres(LedgerContract):
    @pytest.fixture
    def place(self, postgres: Postgres) -> Place:
        return InADatabase(postgres.new_database())


class TestMirrored(LedgerContract):
    @pytest.fixture
    def place(self, postgres: Postgres, tmp_path: Path) -> Place:
        return Mirrored(tmp_path / "s.sqlite", postgres.new_database())


class Mirrored(Place):
    def __init__(self, file: Path, url: str) -> None:
        self.file, self.url = file, url

    def open(self) -> MirroredStore:
        return MirroredStore(SqliteStore(self.file), lambda: PostgresStore(self.url))

    def tamper(self, statement: str) -> None:
        InAFile(self.file).tamper(statement)


def test_a_column_that_was_altered_is_found_though_the_entry_was_not(postgres: Postgres) -> None:
    place = InADatabase(postgres.new_database())
    store = place.open()
    store.append(entry(0, "1"))
    store.append(entry(1, "1"))
    place.tamper("UPDATE ledger SET user_name = 'mallory' WHERE seq = 2")
    assert store.broken_at_sequence() == 2
    store.close()
    place.tamper("UPDATE ledger SET entry = 'no JSON' WHERE seq = 1")
    again = place.open()
    assert again.broken_at_sequence() == 1
    again.close()


def test_only_one_may_write(postgres: Postgres) -> None:
    url = postgres.new_database()
    store = PostgresStore(url)
    with pytest.raises(StoreError, match="another powerctld writes to this database"):
        PostgresStore(url)
    store.append(entry(0))
    reader = PostgresStore(url, read_only=True)
    assert reader.entries() == [entry(0)]
    reader.close()
    store.close()
    PostgresStore(url).close()


def test_a_writer_that_has_just_gone_is_waited_for(postgres: Postgres) -> None:
    """Its session ends some time after it has let go, longer on a busy server."""
    url = postgres.new_database()
    before = PostgresStore(url)
    leaving = threading.Timer(0.5, before.close)
    leaving.start()
    PostgresStore(url).close()
    leaving.join()


def test_a_database_of_before_the_version_goes_on_and_a_newer_one_is_left_alone(postgres: Postgres) -> None:
    url = postgres.new_database()
    store = PostgresStore(url)
    store.append(entry(0))
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE schema_version")  # as the first version left it
    store = PostgresStore(url)
    store.append(entry(1))
    assert (len(store.entries()), store.broken_at_sequence()) == (2, None)
    store.close()
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (2,)
        connection.execute("UPDATE schema_version SET version = 7")
        for read_only in (False, True):
            with pytest.raises(NewerSchemaError, match=r"has schema 7 .* nothing was changed"):
                PostgresStore(url, read_only=read_only)
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (7,)


def test_rows_that_do_not_follow_are_refused(postgres: Postgres) -> None:
    store = PostgresStore(postgres.new_database())
    store.append(entry(0))
    with pytest.raises(StoreError, match="entry 3 does not follow entry 1"):
        store.append_rows([(3, entry(1), "x")])
    assert len(store.entries()) == 1
    store.close()


def copied(url: str) -> list[str]:
    reader = PostgresStore(url, read_only=True)
    try:
        assert reader.broken_at_sequence() is None
        return [found.reason for found in reader.entries()]
    finally:
        reader.close()


def test_a_server_that_is_killed_loses_nothing_and_stops_nobody(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    store = open_store(StoreConfig(ledger_url=url), tmp_path)
    assert isinstance(store, MirroredStore)
    written: list[str] = []

    def write(count: int) -> None:
        for _ in range(count):
            written.append(f"entry {len(written)}")
            began = time.monotonic()
            store.append(entry_saying(written[-1]))
            assert time.monotonic() - began < 1.0

    write(50)
    until(lambda: store.copy_problem == "" and len(copied(url)) == 50, "the copy")
    write(20)
    postgres.kill()
    write(30)
    store.put_jobs({"1": {"user": "alice"}})
    store.put_state("levers", {"caps": {}})
    until(lambda: store.copy_problem != "", "the trouble")
    postgres.start()
    write(5)
    until(lambda: store.copy_problem == "", "the server's return")
    until(lambda: len(copied(url)) == len(written), "the rest")
    assert copied(url) == written
    store.close()
    reader = PostgresStore(url, read_only=True)
    assert (reader.job("1"), reader.state("levers")) == ({"user": "alice"}, {"caps": {}})
    reader.close()


def entry_saying(reason: str) -> Any:
    return replace(entry(0), reason=reason)


def test_a_new_controller_goes_on_where_the_old_one_ended(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    config = StoreConfig(ledger_url=url)
    first = open_store(config, tmp_path / "old")
    for number in range(3):
        first.append(entry(number))
    first.put_jobs({"1": {"user": "alice"}})
    first.put_state("pins", {"c1": "x"})
    first.close()
    second = open_store(config, tmp_path / "new")
    assert list(second.entries()) == [entry(number) for number in range(3)]
    assert (second.job("1"), second.state("pins")) == ({"user": "alice"}, {"c1": "x"})
    second.append(entry(3))
    second.close()
    assert len(copied(url)) == 4

    # The old one comes back with a ledger that has ended earlier: two do not mix.
    stale = open_store(config, tmp_path / "old")
    until(lambda: "another ledger: its entry 4 is not ours" in stale.copy_problem, "the refusal")
    stale.append(entry(9))
    stale.close()
    assert len(copied(url)) == 4


def test_a_new_controller_needs_the_database_once_and_a_sound_one(postgres: Postgres, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has to see once where its ledger ended"):
        open_store(StoreConfig(ledger_url=f"postgresql:///x?host={tmp_path}"), tmp_path)
    place = InADatabase(postgres.new_database())
    store = place.open()
    store.append(entry(0))
    store.close()
    place.tamper("UPDATE ledger SET entry = '{}'")
    with pytest.raises(StoreError, match="chain of entries is broken at entry 1"):
        open_store(StoreConfig(ledger_url=place.url), tmp_path)
    # One that has a ledger of its own starts without.
    SqliteStore(tmp_path / LEDGER_NAME).append(entry(0))
    alone = open_store(StoreConfig(ledger_url=f"postgresql:///x?host={tmp_path}"), tmp_path)
    until(lambda: alone.copy_problem != "", "the trouble")
    alone.close()


def test_taking_over_is_all_or_nothing(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    copy = PostgresStore(url)
    for number in range(5):
        copy.append(entry(number))
    copy.put_jobs({"1": {"user": "alice"}})

    class CutShort(PostgresStore):
        def rows(self, *words: Any, **filters: Any) -> Iterator[Any]:
            yield from islice(copy.rows(*words, **filters), 3)
            raise StoreError("the server went away")

    local = SqliteStore(tmp_path / "s.sqlite")
    cut_short = CutShort(url, read_only=True)
    with pytest.raises(StoreError, match="went away"):
        take_over(local, cut_short)
    cut_short.close()
    assert (local.entries(), local.jobs()) == ([], {})
    assert take_over(local, copy) == 5
    local.append(entry(5))
    assert (len(local.entries()), local.broken_at_sequence()) == (6, None)
    assert local.jobs() == {"1": {"user": "alice"}}
    local.close()
    copy.close()


def test_a_local_file_that_cannot_be_read_is_told_and_tried_again(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    PostgresStore(url).close()  # makes the tables
    fails = threading.Event()

    class Reader(SqliteStore):
        def rows(self, *words: Any, **filters: Any) -> Iterator[Any]:
            if fails.is_set():
                raise sqlite3.OperationalError("disk I/O error")
            return super().rows(*words, **filters)

    file = tmp_path / "s.sqlite"
    store = MirroredStore(
        SqliteStore(file), lambda: PostgresStore(url), open_local=lambda: Reader(file, read_only=True)
    )
    store.append(entry(0))
    until(lambda: len(copied(url)) == 1, "the copy")
    fails.set()
    store.append(entry(1))
    until(lambda: "disk I/O error" in store.copy_problem, "the trouble")
    fails.clear()
    until(lambda: store.copy_problem == "" and len(copied(url)) == 2, "the copy")
    store.close()


def test_a_server_that_hangs_is_told_and_stops_nobody(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    PostgresStore(url).close()  # makes the tables
    store = MirroredStore(
        SqliteStore(tmp_path / "s.sqlite"), lambda: PostgresStore(url), patience_seconds=0.5
    )
    store.append(entry(0))
    until(lambda: len(copied(url)) == 1, "the copy")
    with postgres.hung():
        began = time.monotonic()
        store.append(entry(1))
        assert time.monotonic() - began < 1.0
        until(lambda: "no answer for" in store.copy_problem, "the trouble")
    until(lambda: store.copy_problem == "" and len(copied(url)) == 2, "the copy")
    store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://x/y", "no address"),
        ("postgresql://me:secret@host/db", "holds a password"),
        ("postgresql:///db?password=secret", "holds a password"),
        ("postgresql:///db?host=/run/postgresql", ""),
    ],
)
def test_an_address_is_checked(url: str, words: str) -> None:
    found = StoreConfig(ledger_url=url).problems()
    assert (words in " ".join(found)) if words else found == []
