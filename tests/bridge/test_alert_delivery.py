"""Alerts on their ways out: an HTTP door, a mail server, programs; each broken, and well again."""

import asyncio
import email
import json
import os
import time
from collections.abc import Callable, Coroutine
from email import policy
from pathlib import Path
from typing import Any

import pytest

from slurm_power.bridge.alert_channels import (
    DeliveryError,
    HookChannel,
    JournalChannel,
    MailChannel,
    one_line,
)
from slurm_power.bridge.alert_delivery import MOST_WAITING, Outbox
from slurm_power.bridge.alert_messages import trial
from slurm_power.bridge.alertmanager import AlertmanagerOutbox
from slurm_power.config.alerts import AlertmanagerConfig, AlertSettings, HookConfig, MailConfig
from tests.bridge.receivers import alertmanager, certificate, mail_server

EVIL = "\x1b[31mred\nBcc: everybody@example.org\r\n.\r\nMAIL FROM:<root@example.org>"


def told(**changes: Any) -> dict[str, Any]:
    base = trial(site="lab", settings=AlertSettings(), at="2026-01-02T03:04:05.000+00:00", who="alice")
    base |= {"news": "firing", "alert_id": "dead_source:pdu1", "rule": "dead_source", "cause": "pdu1"}
    return {**base, "severity": "warn", "summary": "pdu1: stale", **changes}


def wait(happens: Callable[[], Any], seconds: float = 10.0) -> Coroutine[Any, Any, None]:
    async def poll() -> None:
        until = time.monotonic() + seconds
        while not happens():
            assert time.monotonic() < until, "it did not come"
            await asyncio.sleep(0.02)

    return poll()


async def with_running(*outboxes: Any, body: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(one.run()) for one in outboxes]
    try:
        await body
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- Alertmanager -------------------------------------------------------------------------------------------


def test_alertmanager_is_shown_what_fires_and_its_end() -> None:
    async def body() -> None:
        async with alertmanager() as door:
            config = AlertmanagerConfig(
                name="main", url=f"http://127.0.0.1:{door.port}/", resend_seconds=600.0
            )
            own = AlertmanagerOutbox(config)

            async def watch() -> None:
                own.show([told(), told(cause="pdu2", effects=["rack2 counts as full"])])
                await wait(lambda: door.active() == {"pdu1", "pdu2"})
                own.show([told(cause="pdu2")])
                await wait(lambda: door.active() == {"pdu2"})
                # The door has it before its answer has come back here.
                await wait(lambda: own.to_json()["ended"] == [])

            await with_running(own, body=watch())
            assert door.problems == []
            (first,) = [alert for alert in door.posts[-1] if alert["labels"]["cause"] == "pdu2"]
            assert first["labels"]["alertname"] == "SlurmPowerDeadSource"

    asyncio.run(body())


def test_alertmanager_away_loses_nothing_and_is_shown_again_and_again() -> None:
    async def body() -> None:
        async with alertmanager() as door:
            door.status = 503
            config = AlertmanagerConfig(name="main", url=f"http://127.0.0.1:{door.port}", resend_seconds=0.1)
            own = AlertmanagerOutbox(config, first_backoff_seconds=0.02)

            async def watch() -> None:
                own.show([told()])
                await wait(lambda: "503" in own.failing)
                own.show([])
                door.status = 0
                await wait(lambda: own.failing and "503" not in own.failing)
                # The next bridge knows what has to be ended.
                later = AlertmanagerOutbox(config, first_backoff_seconds=0.02)
                later.take_json(json.loads(json.dumps(own.to_json())))
                assert len(later.to_json()["ended"]) == 1
                own.show([told(cause="pdu3")])
                door.status = 200
                await wait(lambda: door.active() == {"pdu3"})
                await wait(lambda: own.failing == "")
                count = len(door.posts)
                await wait(lambda: len(door.posts) > count + 2)
                assert any(alert["labels"]["cause"] == "pdu1" for post in door.posts for alert in post)

            await with_running(own, body=watch())

    asyncio.run(body())


def test_alertmanager_gets_the_token_and_no_alert_about_itself(tmp_path: Path) -> None:
    async def body() -> None:
        token = tmp_path / "token"
        token.write_text("s3cret\n")
        token.chmod(0o600)
        async with alertmanager() as door:
            config = AlertmanagerConfig(name="main", url=f"http://localhost:{door.port}", token_file=token)
            assert config.problems() == []
            own = AlertmanagerOutbox(config)
            own.show([told(rule="delivery_failing", cause=own.name), told(severity="page")])
            await with_running(own, body=wait(lambda: door.active() == {"pdu1"}))
            assert door.headers[0]["authorization"] == "Bearer s3cret"
            assert (
                await own.test(
                    trial(site="lab", settings=AlertSettings(), at="2026-01-02T03:04:05+00:00", who="x")
                )
                == ""
            )
            token.chmod(0o644)
            assert "others may read" in await own.test(told())

    asyncio.run(body())


# --- mail ---------------------------------------------------------------------------------------------------


def test_mail_goes_by_starttls_with_a_password(tmp_path: Path) -> None:
    async def body() -> None:
        context, pem = certificate(tmp_path)
        secret = tmp_path / "password"
        secret.write_text("hush")
        secret.chmod(0o600)
        async with mail_server(context, user="power", password="hush") as server:
            config = MailConfig(
                name="ops",
                server=f"localhost:{server.port}",
                sender="power@example.org",
                to=("ops@example.org", "boss@example.org"),
                user="power",
                password_file=secret,
                ca_file=pem,
            )
            assert config.problems() == []
            await MailChannel(config).deliver(told(summary=EVIL, effects=["a", EVIL], labels={"x": EVIL}))
            await MailChannel(config).deliver(told(news="over", message_id="b" * 32))
        assert server.secured == [True, True]
        sender, to, text = server.mails[0]
        assert (sender, to) == ("power@example.org", ["ops@example.org", "boss@example.org"])
        mail = email.message_from_string(text, policy=policy.default)
        assert mail["Bcc"] is None
        assert mail["Subject"].startswith("[lab] WARN ?[31mred?Bcc")
        assert "\x1b" not in mail.get_content()
        over = email.message_from_string(server.mails[1][2], policy=policy.default)
        assert over["References"] == mail["Message-ID"]

    asyncio.run(body())


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("password", "535"),
        ("certificate", "CERTIFICATE_VERIFY_FAILED"),
        ("RCPT", "takes none of"),
        ("DATA", "451"),
        ("secret", "No such file"),
        ("away", "refused"),
    ],
)
def test_mail_that_does_not_go_says_why(tmp_path: Path, spoil: str, why: str) -> None:
    async def body() -> None:
        context, pem = certificate(tmp_path)
        secret = tmp_path / "password"
        if spoil != "secret":
            secret.write_text("wrong" if spoil == "password" else "hush")
            secret.chmod(0o600)
        async with mail_server(context, user="power", password="hush") as server:
            server.refuse = (
                {"RCPT": "550 who?"} if spoil == "RCPT" else {"DATA": "451 full"} if spoil == "DATA" else {}
            )
            port = 1 if spoil == "away" else server.port
            config = MailConfig(
                name="ops",
                server=f"localhost:{port}",
                sender="power@example.org",
                to=("ops@example.org",),
                user="power",
                password_file=secret,
                ca_file=None if spoil == "certificate" else pem,
            )
            with pytest.raises(DeliveryError, match=why):
                await MailChannel(config).deliver(told())
            assert server.mails == []

    asyncio.run(body())


def test_mail_without_starttls_where_it_is_wanted_is_not_sent() -> None:
    async def body() -> None:
        async with mail_server(None) as server:
            config = MailConfig(name="ops", server=f"localhost:{server.port}", sender="a@b.c", to=("d@e.f",))
            with pytest.raises(DeliveryError, match="STARTTLS"):
                await MailChannel(config).deliver(told())
            plain = MailConfig(
                name="ops", server=f"localhost:{server.port}", sender="a@b.c", to=("d@e.f",), starttls=False
            )
            await MailChannel(plain).deliver(told())
            assert len(server.mails) == 1

    asyncio.run(body())


# --- a program ----------------------------------------------------------------------------------------------


def hook(tmp_path: Path, text: str, *, seconds: float = 10.0, as_root: bool = True) -> HookChannel:
    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return HookChannel(
        HookConfig(name="own", command=(str(program),), timeout_seconds=seconds, run_as_root=as_root)
    )


def gone(pid_file: Path) -> bool:
    """Whether the process of that number has ended; a zombie has."""
    try:
        state = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_hook_gets_the_alert_on_its_input_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUR_SECRET", "hush")
    out = tmp_path / "out"
    asyncio.run(hook(tmp_path, f"cat > {out}; env > {out}.env; pwd > {out}.pwd").deliver(told(summary=EVIL)))
    got = json.loads(out.read_text())
    assert (got["alert_id"], got["summary"]) == ("dead_source:pdu1", EVIL)
    assert "hush" not in (tmp_path / "out.env").read_text()
    assert (tmp_path / "out.pwd").read_text() == "/\n"


def test_a_hook_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match=r"status 3: no pager.out of battery"):
        asyncio.run(hook(tmp_path, "printf 'no pager\\nout of battery' >&2; exit 3").deliver(told()))
    with pytest.raises(DeliveryError, match="No such file"):
        asyncio.run(
            HookChannel(HookConfig(name="own", command=("/nowhere/hook",), run_as_root=True)).deliver(told())
        )


def test_a_hook_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    text = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait; sleep 600"
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="did not end in 1 s"):
        asyncio.run(hook(tmp_path, text, seconds=1.0).deliver(told()))
    assert time.monotonic() - began < 30.0
    asyncio.run(wait(lambda: gone(tmp_path / "child") and gone(tmp_path / "own")))


def test_a_hook_that_forks_and_ends_keeps_nobody_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    asyncio.run(hook(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child", seconds=60.0).deliver(told()))
    assert time.monotonic() - began < 30.0
    asyncio.run(wait(lambda: gone(tmp_path / "child")))


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone is refused")
def test_a_hook_is_not_run_as_root_unless_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="run_as_root"):
        asyncio.run(hook(tmp_path, f"touch {tmp_path}/ran", as_root=False).deliver(told()))
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_everybody_may_write_is_not_run(tmp_path: Path) -> None:
    own = hook(tmp_path, f"touch {tmp_path}/ran")
    (tmp_path / "hook").chmod(0o777)
    with pytest.raises(DeliveryError, match="everybody may write"):
        asyncio.run(own.deliver(told()))
    assert not (tmp_path / "ran").exists()


# --- queues -------------------------------------------------------------------------------------------------


class Recording:
    """A channel that fails as long as it is told to."""

    name = "recording"

    def __init__(self) -> None:
        from slurm_power.model.alert import Severity

        self.severity = Severity.WARN
        self.why = ""
        self.got: list[dict[str, Any]] = []
        self.tries = 0

    async def deliver(self, message: dict[str, Any]) -> None:
        self.tries += 1
        if self.why:
            raise DeliveryError(self.why)
        self.got.append(message)


def test_what_does_not_go_is_tried_again_in_order_and_survives_a_restart() -> None:
    async def body() -> None:
        channel = Recording()
        channel.why = "away"
        own = Outbox(channel, first_backoff_seconds=0.01)
        for number in range(3):
            own.put(told(at=str(number)))
        own.put(told(severity="info"))
        own.put(told(rule="delivery_failing", cause="recording"))
        await with_running(own, body=wait(lambda: channel.tries > 2))
        assert own.failing == "away"
        later = Outbox(channel, first_backoff_seconds=0.01)
        later.take_json(json.loads(json.dumps(own.to_json())))
        channel.why = ""
        await with_running(later, body=wait(lambda: len(channel.got) == 3))
        assert [message["at"] for message in channel.got] == ["0", "1", "2"]
        assert later.failing == ""
        assert later.to_json() == {"waiting": []}

    asyncio.run(body())


def test_a_queue_has_a_bound() -> None:
    async def body() -> None:
        own = Outbox(Recording())
        for number in range(MOST_WAITING + 5):
            own.put(told(at=str(number)))
        waiting = own.to_json()["waiting"]
        assert (len(waiting), waiting[0]["at"], own.dropped) == (MOST_WAITING, "5", 5)

    asyncio.run(body())


def test_the_journal_has_one_line_an_alert(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    asyncio.run(JournalChannel().deliver(told(summary=EVIL, severity="page")))
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "\n" not in record.getMessage()
    assert one_line(told()) == "WARN pdu1: stale [dead_source:pdu1]"
