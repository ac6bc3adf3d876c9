"""The front as the keeper sees it: a process without privileges, a socket pair, and the node's hook socket.

The hook socket is made here and lives as long as the keeper: callers wait in it while a new front starts.
"""

import logging
import os
import pwd
import selectors
import socket
import stat
import subprocess
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slurm_power.config.node_record import NodeConfig, advice_directory
from slurm_power.node.frames import MAX_FRAME_BYTES

LEAST_RESTART_SECONDS = 1.0
FAREWELL_SECONDS = 2.0
# A front that leaves more than this unread hangs, and is replaced.
MAX_UNSENT_FRAMES = 4096
MAX_FRAMES_A_TURN = 64

log = logging.getLogger(__name__)


class FrontProcess:
    """Starts the front, and again when it ends or hangs. ``on_start`` is called when a new one is there."""

    def __init__(
        self,
        config: NodeConfig,
        command: list[str],
        selector: selectors.BaseSelector,
        *,
        on_frame: Callable[[bytes], None],
        on_start: Callable[[], None],
    ) -> None:
        self._config = config
        self._command = command
        self._selector = selector
        self._on_frame = on_frame
        self._on_start = on_start
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._unsent: deque[bytes] = deque(maxlen=MAX_UNSENT_FRAMES)
        self._restart_at_seconds = 0.0

    @property
    def directory(self) -> Path:
        """The front's own folder: what it remembers is no secret of root's."""
        return self._config.state_directory / "front"

    def prepare(self) -> None:
        """Make the front's folder and the hook socket; raises OSError, KeyError for an unknown user."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self._config.socket
        path.parent.mkdir(parents=True, exist_ok=True)
        # What it says to jobs lies where every job may read it.
        advice = advice_directory(path)
        advice.mkdir(exist_ok=True)
        _open_to_all(advice)
        account = None if self._config.user is None else pwd.getpwnam(self._config.user)
        uid, gid = (os.getuid(), os.getgid()) if account is None else (account.pw_uid, account.pw_gid)
        for directory in (self.directory, advice):
            _give(directory, uid, gid)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        self._listener = listener

    def check(self, now_seconds: float) -> None:
        """Start the front if there is none, not more often than once a second."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            log.error("the part with the sockets ended with status %d; starting another", status)
            self._forget()
        if self._listener is None or now_seconds < self._restart_at_seconds:
            return
        self._restart_at_seconds = now_seconds + LEAST_RESTART_SECONDS
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            self._process = self._started(theirs)
        except OSError as error:
            log.error("the part with the sockets cannot be started: %s", error)
            ours.close()
            return
        finally:
            theirs.close()
        self._channel = ours
        self._selector.register(ours, selectors.EVENT_READ, self._ready)
        self._on_start()

    def _started(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        assert self._listener is not None
        descriptors = (theirs.fileno(), self._listener.fileno())
        command = [*self._command, f"--front={descriptors[0]},{descriptors[1]}"]
        if self._config.user is None:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=descriptors)
        account = pwd.getpwnam(self._config.user)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            umask=0o077,
        )

    def send(self, frame: bytes) -> None:
        """Send a frame; without a front the latest are kept for the next one."""
        if self._process is not None and len(self._unsent) == MAX_UNSENT_FRAMES:
            log.error("the part with the sockets reads nothing any more; killing it")
            self._process.kill()
        self._unsent.append(frame)
        self._flush()

    def _flush(self) -> None:
        while self._channel is not None and self._unsent:
            try:
                self._channel.send(self._unsent[0])
            except BlockingIOError:
                break
            except OSError:
                return  # it has ended; what has not been sent waits for the next one
            self._unsent.popleft()
        if self._channel is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            if self._selector.get_key(self._channel).events != events:
                self._selector.modify(self._channel, events, self._ready)

    def _ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._flush()
        for _ in range(MAX_FRAMES_A_TURN if mask & selectors.EVENT_READ else 0):
            if self._channel is None:
                return
            try:
                data = self._channel.recv(MAX_FRAME_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._hang_up()
                return
            self._on_frame(data)

    def _hang_up(self) -> None:
        """Let go of a front that has closed its end: it is about to end, or has to."""
        if self._channel is not None:
            self._selector.unregister(self._channel)
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()

    def _forget(self) -> None:
        self._hang_up()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let the front end by itself, or end it; then remove the hook socket."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
        if self._process is not None:
            try:
                self._process.wait(FAREWELL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._forget()
        if self._listener is not None:
            self._listener.close()
            self._config.socket.unlink(missing_ok=True)
            self._listener = None


def _open_to_all(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchmod(folder, 0o755)
    finally:
        os.close(folder)


def _give(directory: Path, uid: int, gid: int) -> None:
    """Make a folder and the plain files in it another user's, when ``user`` of node.toml has changed.

    Who had the folder may have put anything there: links, hard ones too, could lead to files of root's.
    """
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(folder).st_uid == uid:
            return
        os.fchown(folder, uid, gid)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError:
                continue
            try:
                found = os.fstat(file)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                    os.fchown(file, uid, gid)
            finally:
                os.close(file)
    finally:
        os.close(folder)
