"""Sessions of browsers and tokens of programs: what proves who somebody is, kept as hashes alone."""

import hashlib
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from slurm_power.model.role import Role
from slurm_power.store.private import private_file

FILE_NAME = "web.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    mark BLOB PRIMARY KEY, name TEXT NOT NULL, operator INTEGER NOT NULL, ends_seconds REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS session_name ON session (name);
CREATE TABLE IF NOT EXISTS token (
    mark BLOB PRIMARY KEY, token_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
    made_seconds REAL NOT NULL, ends_seconds REAL NOT NULL
);
"""
TOKEN_PREFIX = "spw_"  # noqa: S105  # finds a token that was written where it should not be, and is none
# A user who logs in again and again pushes out their own sessions, and nobody else's.
_MOST_SESSIONS_OF_A_USER = 20
_MOST_SESSIONS = 20_000
_MOST_TOKENS = 1000


_DROP_OLDEST = (
    "DELETE FROM session WHERE mark IN"
    " (SELECT mark FROM session ORDER BY ends_seconds DESC LIMIT -1 OFFSET ?)"
)


class KeysError(Exception):
    """Keys cannot be read or written; the text names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that has proved whose it is. ``operator``: the kernel said that it is one of powerctld's."""

    name: str
    operator: bool
    ends_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A program's token, without what proves it. Times are Unix seconds."""

    token_id: str
    name: str
    role: Role
    made_seconds: float
    ends_seconds: float


class Keys:
    """The file of sessions and tokens; opened for each question, so that any thread and process may ask."""

    def __init__(self, file: Path) -> None:
        """Make the file if it is not there; raises KeysError."""
        self._file = file
        try:
            private_file(file)
            with closing(self._open()) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise KeysError(f"{file}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=5.0, isolation_level=None)

    def _do(self, *steps: tuple[str, tuple[object, ...]]) -> list[tuple[object, ...]]:
        """Run statements in one transaction; returns the rows of the last. Raises KeysError."""
        try:
            with closing(self._open()) as connection:
                connection.execute("BEGIN IMMEDIATE")
                rows: list[tuple[object, ...]] = []
                for words, values in steps:
                    rows = connection.execute(words, values).fetchall()
                connection.execute("COMMIT")
                return rows
        except sqlite3.Error as error:
            raise KeysError(f"{self._file}: {error}") from None

    def _read(self, words: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            with closing(self._open()) as connection:
                return connection.execute(words, values).fetchall()
        except sqlite3.Error as error:
            raise KeysError(f"{self._file}: {error}") from None

    def begin_session(self, name: str, *, operator: bool, now_seconds: float, seconds: float) -> str:
        """A new session; returns what proves it, 256 random bits as text."""
        secret = secrets.token_urlsafe(32)
        keep_newest = (
            "DELETE FROM session WHERE name = ? AND mark NOT IN"
            " (SELECT mark FROM session WHERE name = ? ORDER BY ends_seconds DESC LIMIT ?)"
        )
        self._do(
            ("DELETE FROM session WHERE ends_seconds <= ?", (now_seconds,)),
            (keep_newest, (name, name, _MOST_SESSIONS_OF_A_USER - 1)),
            (_DROP_OLDEST, (_MOST_SESSIONS - 1,)),
            (
                "INSERT INTO session VALUES (?, ?, ?, ?)",
                (_mark(secret), name, operator, now_seconds + seconds),
            ),
        )
        return secret

    def session(self, secret: str, now_seconds: float) -> Session | None:
        """The session that ``secret`` proves, None for none or one that is over."""
        rows = self._read("SELECT name, operator, ends_seconds FROM session WHERE mark = ?", (_mark(secret),))
        for name, operator, ends_seconds in rows:
            if _number(ends_seconds) > now_seconds:
                return Session(name=str(name), operator=bool(operator), ends_seconds=_number(ends_seconds))
        return None

    def end_session(self, secret: str) -> None:
        """Forget a session."""
        self._do(("DELETE FROM session WHERE mark = ?", (_mark(secret),)))

    def end_sessions_of(self, name: str) -> int:
        """Forget all sessions of a user; returns how many there were."""
        return len(self._do(("DELETE FROM session WHERE name = ? RETURNING 1", (name,))))

    def make_token(self, name: str, role: Role, *, now_seconds: float, seconds: float) -> tuple[str, Token]:
        """A new token with what proves it, which is told this once; raises KeysError."""
        if len(self.tokens(now_seconds)) >= _MOST_TOKENS:
            raise KeysError(f"there are {_MOST_TOKENS} tokens already; revoke some")
        secret, token_id = TOKEN_PREFIX + secrets.token_urlsafe(32), secrets.token_hex(4)
        token = Token(
            token_id=token_id,
            name=name,
            role=role,
            made_seconds=now_seconds,
            ends_seconds=now_seconds + seconds,
        )
        row = (_mark(secret), token_id, name, role.value, token.made_seconds, token.ends_seconds)
        self._do(
            ("DELETE FROM token WHERE ends_seconds <= ?", (now_seconds,)),
            ("INSERT INTO token VALUES (?, ?, ?, ?, ?, ?)", row),
        )
        return secret, token

    def token(self, secret: str, now_seconds: float) -> Token | None:
        """The token that ``secret`` proves, None for none or one that is over."""
        rows = self._read(f"SELECT {_TOKEN} FROM token WHERE mark = ?", (_mark(secret),))  # noqa: S608  # constant
        found = [_token(row) for row in rows]
        return found[0] if found and found[0].ends_seconds > now_seconds else None

    def tokens(self, now_seconds: float) -> list[Token]:
        """All tokens that are not over, the newest last."""
        rows = self._read(
            f"SELECT {_TOKEN} FROM token WHERE ends_seconds > ? ORDER BY made_seconds",  # noqa: S608  # constant
            (now_seconds,),
        )
        return [_token(row) for row in rows]

    def revoke(self, token_id: str) -> bool:
        """Forget a token; False if there is none of that id."""
        return bool(self._do(("DELETE FROM token WHERE token_id = ? RETURNING 1", (token_id,))))


_TOKEN = "token_id, name, role, made_seconds, ends_seconds"  # noqa: S105  # names of columns


def _token(row: tuple[object, ...]) -> Token:
    token_id, name, role, made_seconds, ends_seconds = row
    return Token(
        token_id=str(token_id),
        name=str(name),
        role=Role(str(role)),
        made_seconds=_number(made_seconds),
        ends_seconds=_number(ends_seconds),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _mark(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
