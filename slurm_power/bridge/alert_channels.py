"""The ways an alert goes out: a mail, a program of the site's, a line in the journal."""

import asyncio
import json
import logging
import os
import signal
import smtplib
import ssl
import stat
import syslog
import tempfile
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Protocol

from slurm_power import clock
from slurm_power.bridge.loose import plain, rows, table, words
from slurm_power.config.alerts import HookConfig, MailConfig
from slurm_power.config.node_record import split_address
from slurm_power.model.alert import Severity

log = logging.getLogger("slurm_power.alerts")

_LEVELS = {Severity.PAGE: logging.ERROR, Severity.WARN: logging.WARNING, Severity.INFO: logging.INFO}
_PRIORITIES = {
    Severity.PAGE: syslog.LOG_CRIT,
    Severity.WARN: syslog.LOG_WARNING,
    Severity.INFO: syslog.LOG_NOTICE,
}
_WORDS = {"firing": "", "graver": "graver: ", "still": "still: ", "over": "over: ", "test": "test: "}
_LONGEST_SECRET = 1024
_MOST_COMPLAINT = 300
_GRACE_SECONDS = 0.5


class DeliveryError(Exception):
    """An alert did not get out; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(plain(text))


class Channel(Protocol):
    """One way out. ``severity``: what is less grave does not go there."""

    name: str
    severity: Severity

    async def deliver(self, message: dict[str, Any]) -> None:
        """Bring one message of :mod:`alert_messages` out; raises DeliveryError."""
        ...


def one_line(message: dict[str, Any]) -> str:
    """``PAGE limit at risk: grid is 1.2 kW above its limit``, and what became of it."""
    word = _WORDS.get(words(message, "news"), "")
    severity, alert_id = words(message, "severity").upper(), words(message, "alert_id")
    return f"{severity} {word}{words(message, 'summary')} [{alert_id}]"


class JournalChannel:
    """Lines in the bridge's log, which systemd takes into its journal; syslog, where asked for."""

    name = "journal"
    severity = Severity.INFO

    def __init__(self, *, to_syslog: bool = False) -> None:
        self._to_syslog = to_syslog

    async def deliver(self, message: dict[str, Any]) -> None:
        """Write a line; never fails."""
        severity = Severity(words(message, "severity"))
        if words(message, "news") in ("over", "test"):
            severity = Severity.INFO
        text = f"{one_line(message)} {words(message, 'runbook')}"
        log.log(_LEVELS[severity], "%s", text)
        if self._to_syslog:
            syslog.syslog(syslog.LOG_DAEMON | _PRIORITIES[severity], f"slurm-power: {text}")


class MailChannel:
    """Mail by SMTP, with STARTTLS unless it is switched off."""

    def __init__(self, config: MailConfig) -> None:
        self.name = f"mail.{config.name}"
        self.severity = config.severity
        self._config = config
        host, port = split_address(config.server, "server", [])
        self._host, self._port = host, port

    async def deliver(self, message: dict[str, Any]) -> None:
        """Hand one mail to the server."""
        await asyncio.to_thread(self._send, self._mail(message))

    def _mail(self, message: dict[str, Any]) -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = self._config.sender
        mail["To"] = ", ".join(self._config.to)
        mail["Subject"] = plain(f"[{words(message, 'site')}] {one_line(message)}")
        mail["Date"] = format_datetime(clock.now())
        # The same in all mails of one alert, so that mail programs show them together.
        mail["Message-ID"] = f"<{words(message, 'message_id')}@slurm-power.invalid>"
        if words(message, "thread_id") != words(message, "message_id"):
            mail["References"] = f"<{words(message, 'thread_id')}@slurm-power.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(mail_text(message))
        return mail

    def _send(self, mail: EmailMessage) -> None:
        config = self._config
        try:
            password = read_secret(config.password_file) if config.password_file is not None else ""
            with smtplib.SMTP(self._host, self._port, timeout=config.timeout_seconds) as server:
                server.ehlo_or_helo_if_needed()
                if config.starttls:
                    trusted = None if config.ca_file is None else str(config.ca_file)
                    server.starttls(context=ssl.create_default_context(cafile=trusted))
                    server.ehlo()
                if config.user:
                    server.login(config.user, password)
                refused = server.send_message(mail, config.sender, list(config.to))
        except smtplib.SMTPResponseException as error:
            said = (
                error.smtp_error.decode("utf-8", "replace")
                if isinstance(error.smtp_error, bytes)
                else error.smtp_error
            )
            raise DeliveryError(f"the mail server said {error.smtp_code} {said}") from None
        except smtplib.SMTPRecipientsRefused as error:
            raise DeliveryError(f"the mail server takes none of {', '.join(error.recipients)}") from None
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise DeliveryError(f"mail: {getattr(error, 'strerror', None) or error}") from None
        if refused:
            log.warning("the mail server does not take %s", plain(", ".join(refused)))


class HookChannel:
    """A program of the site's own: JSON on its standard input, status 0 for success."""

    def __init__(self, config: HookConfig) -> None:
        self.name = f"hook.{config.name}"
        self.severity = config.severity
        self._config = config

    async def deliver(self, message: dict[str, Any]) -> None:
        """Run it for a bounded time; what it leaves behind is ended with it."""
        self._check()
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as complaint:
            given.write(json.dumps(message).encode() + b"\n")
            given.seek(0)
            environment = {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
            }
            try:
                # Files, not pipes: a child that it forks cannot keep us waiting for their end.
                process = await asyncio.create_subprocess_exec(
                    *self._config.command,
                    stdin=given,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=complaint,
                    env=environment,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise DeliveryError(f"{self._config.command[0]}: {error.strerror}") from None
            try:
                async with asyncio.timeout(self._config.timeout_seconds):
                    status = await process.wait()
            except TimeoutError:
                raise DeliveryError(
                    f"{self._config.command[0]} did not end in {self._config.timeout_seconds:g} s"
                ) from None
            finally:
                await _end_group(process)
            if status != 0:
                complaint.seek(0)
                said = complaint.read(_MOST_COMPLAINT).decode("utf-8", "replace").strip()
                raise DeliveryError(
                    f"{self._config.command[0]} ended with status {status}: {said}".rstrip(": ")
                )

    def _check(self) -> None:
        program = Path(self._config.command[0])
        if os.geteuid() == 0 and not self._config.run_as_root:
            raise DeliveryError(
                f"{program} is not run as root; let powerbridge run as its own user, or say run_as_root"
            )
        with suppress(OSError):
            if program.stat().st_mode & stat.S_IWOTH:
                raise DeliveryError(f"{program} is not run: everybody may write it")


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End a hook with all that it has started and not put into a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM if process.returncode is None else signal.SIGKILL)
    if process.returncode is not None:
        return
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def mail_text(message: dict[str, Any]) -> str:
    """The text of a mail: what, since when, what follows from it, what to do."""
    lines = [one_line(message), ""]
    if remark := words(message, "remark"):
        lines += [f"Because {remark}.", ""]
    effects = message.get("effects")
    if isinstance(effects, list) and effects:
        lines += ["What follows from it:", *(f"  - {plain(str(effect))}" for effect in effects), ""]
    lines += [f"What to do: {words(message, 'what_to_do')}", f"Runbook: {words(message, 'runbook')}"]
    lines.append(f"Since: {words(message, 'since')}")
    lines += [f"{plain(key)}: {plain(str(value))}" for key, value in table(message, "labels").items()]
    if also := rows(message, "also_firing"):
        lines += ["", "Also firing:", *(f"  - {words(row, 'summary')}" for row in also)]
    if page := words(message, "page_url"):
        lines += ["", page]
    return "\n".join(lines) + "\n"


def read_secret(path: Path) -> str:
    """The one line of a file that others may not read; raises DeliveryError."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                raise DeliveryError(f"{path}: others may read or write it; chmod 0640 or less")
            secret = file.read(_LONGEST_SECRET + 1).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not secret or len(secret) > _LONGEST_SECRET or not secret.isprintable():
        raise DeliveryError(f"{path}: holds no secret of one line")
    return secret
