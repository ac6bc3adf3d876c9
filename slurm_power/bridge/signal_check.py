"""All signals tried once, at the same time and not for long: what each says, how old that is, what to do."""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from slurm_power import clock
from slurm_power.bridge.daemon import feeds_folder
from slurm_power.bridge.file_check import try_file
from slurm_power.bridge.grid_events import printable
from slurm_power.bridge.signal_found import SignalFound, Standing
from slurm_power.config import SiteConfig
from slurm_power.config.http_signals import HttpFeed, HttpKind, HttpSignal
from slurm_power.config.signals import OpenAdr2Signal, OpenAdr3Signal, Signal
from slurm_power.signals.supply_files import FILE_KINDS

PATIENCE_SECONDS = 10.0
# A request is given up a little before we are, so that it can say why.
_ANSWER_SECONDS = 5.0
_LOGIN_STATUSES = (401, 403)
_WRONG_STATUSES = (400, 404, 405, 406, 410)
_SAY_WHY = 200
# What an error is about and what to do, by words that are in it; the first that fits counts.
_REMEDIES = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        "name who has signed its certificate in ca_file; one that is over or not of this host must be new",
    ),
    ("headers_file", "write lines 'Name: value' that powerctld's user can read"),
    ("client_secret_file", "write the secret there, for powerctld's user alone"),
    ("cert_file", "name files in PEM that powerctld's user can read"),
    ("ca_file", "name a file in PEM that powerctld's user can read"),
    ("it redirects", "if it is right, write where it leads as url"),
    ("an answer of more than", "is url right? A page that has to be so long needs a larger most_bytes"),
    ("/programs: is no list", "is url that of a VTN of OpenADR 3?"),
    ("no token", "are client_id, client_secret_file, scope and token_url right?"),
)


def try_signals(config: SiteConfig, signals: Mapping[str, Signal]) -> list[SignalFound]:
    """Try the files of [supply] and these [signals.NAME]; nothing is changed or registered anywhere.

    Who has not answered in ten seconds is unreachable. Each has a thread that nobody waits for
    then: a name server or a disk that hangs keeps neither the others nor the end of the process.
    """
    feeds = feeds_folder(config)
    tasks: list[tuple[SignalFound, Callable[[], SignalFound]]] = []
    for key, kind in FILE_KINDS.items():
        if getattr(config.supply, key) is not None:
            tasks.append((_late(f"supply.{key}", kind), partial(try_file, config, key, feeds)))
    for name, signal in signals.items():
        late = _late(f"signals.{name}", signal.kind.value)
        tasks.append((late, partial(_try_signal, late.name, signal)))
    found: dict[str, SignalFound] = {}

    def run(late: SignalFound, task: Callable[[], SignalFound]) -> None:
        try:
            found[late.name] = task()
        except Exception as error:  # noqa: BLE001  # one that fails in a new way must not hide the others
            what = f"{type(error).__name__}: {printable(error, _SAY_WHY)}"
            fix = "this is a fault of slurm-power: report it"
            found[late.name] = replace(late, standing=Standing.WRONG, what=what, fix=fix)

    threads = [threading.Thread(target=run, args=task, daemon=True) for task in tasks]
    ends_seconds = clock.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_seconds - clock.monotonic()))
    known = dict(found)
    return [known.get(late.name, late) for late, _ in tasks]


def _late(name: str, kind: str) -> SignalFound:
    what = f"no answer in {PATIENCE_SECONDS:g} s"
    return SignalFound(name=name, kind=kind, standing=Standing.UNREACHABLE, what=what, fix="is its host up?")


def _try_signal(name: str, signal: Signal) -> SignalFound:
    short = replace(signal, timeout_seconds=min(signal.timeout_seconds, _ANSWER_SECONDS))
    host = urlsplit(signal.url).hostname or ""
    try:
        # Here, where nobody waits for it: within the event loop a name server that hangs holds up its end.
        socket.getaddrinfo(host, None)
    except OSError as error:
        return SignalFound(
            name=name,
            kind=signal.kind.value,
            standing=Standing.UNREACHABLE,
            what=f"{host}: {error.strerror or error}",
            fix="is url right, and does this host have a name server?",
        )
    if isinstance(short, HttpFeed):
        return asyncio.run(_page_found(name, short))
    return asyncio.run(_vtn_found(name, short))


async def _page_found(name: str, signal: HttpSignal) -> SignalFound:
    from slurm_power.bridge.bounded_http import AnswerError  # noqa: PLC0415  # loads httpx
    from slurm_power.bridge.http_feed import addresses, stopped  # noqa: PLC0415  # loads httpx
    from slurm_power.bridge.http_page import PageReader  # noqa: PLC0415  # loads httpx
    from slurm_power.bridge.http_rows import PageError, read_page  # noqa: PLC0415  # with the two above

    now = clock.now()
    try:
        reader = PageReader(signal)
        try:
            page = await reader.read(next(iter(addresses(signal, now))).url, {})
        finally:
            await reader.close()
        told = await asyncio.to_thread(read_page, page.content or b"", signal, now)
    except AnswerError as error:
        return _failed(name, signal, str(error), error.status)
    except PageError as error:
        fix = "compare rows, time, value, unit and the plausible values with the page"
        return _found(name, signal, Standing.WRONG, str(error), fix)
    past = [one.starts_at for one in told.values if one.starts_at <= now]
    newest_at = told.made_at or max(past, default=None)
    age_seconds = None if newest_at is None else (now - newest_at).total_seconds()
    doubts = [*told.doubts, *([page.clock_doubt] if page.clock_doubt else [])]
    if signal.kind is HttpKind.LIMITS:
        ahead = sum(one.ends_at > now for one in told.values)
        what, stale = f"{ahead} limits now or ahead", []
    else:
        stale = stopped(told.values, now)
        what = f"{len(told.values)} values" + (
            f" until {told.values[-1].ends_at:%Y-%m-%d %H:%MZ}" if told.values else ""
        )
    fix = "ask its owner whether it has stopped" if stale else "ask its owner about these" if doubts else ""
    standing = Standing.STALE if stale else Standing.OK
    return replace(
        _found(name, signal, standing, "; ".join([*(stale or [what]), *doubts]), fix),
        newest_age_seconds=age_seconds,
    )


async def _vtn_found(name: str, signal: OpenAdr2Signal | OpenAdr3Signal) -> SignalFound:
    from slurm_power.bridge.bounded_http import AnswerError  # noqa: PLC0415  # loads httpx
    from slurm_power.bridge.openadr3_client import OpenAdr3Client  # noqa: PLC0415  # loads httpx

    try:
        if isinstance(signal, OpenAdr2Signal):
            return await _vtn2_found(name, signal)
        client = OpenAdr3Client(signal)
        try:
            programs = {str(row.get("programName")) for row in await client.everything("/programs")}
        finally:
            await client.close()
    except AnswerError as error:
        return _failed(name, signal, str(error), error.status)
    missing = sorted(set(signal.programs) - programs)
    if missing:
        what = f"it has no program {', '.join(missing)}"
        return _found(
            name, signal, Standing.WRONG, what, f"programs: {len(programs)} are there for this login"
        )
    return _answers(name, signal, f"answers, {len(programs)} programs", client.clock_doubt)


async def _vtn2_found(name: str, signal: OpenAdr2Signal) -> SignalFound:
    try:
        from slurm_power.bridge.openadr2_line import OpenAdr2Line, new_id  # noqa: PLC0415  # loads openleadr
    except ImportError as error:
        return _found(name, signal, Standing.WRONG, f"{error}", "pip install 'slurm-power[bridge]'")
    line = OpenAdr2Line(signal)
    try:
        # Whoever asks this is not registered by it.
        answer = await line.ask("EiRegisterParty", "oadrQueryRegistration", request_id=new_id())
    finally:
        await line.close()
    if answer is None or answer.kind != "oadrCreatedPartyRegistration":
        kind = "nothing" if answer is None else answer.kind
        return _found(name, signal, Standing.WRONG, f"it answers {kind}", "is url that of a VTN of 2.0b?")
    return _answers(name, signal, "answers", line.clock_doubt)


def _answers(name: str, signal: Signal, what: str, doubt: str) -> SignalFound:
    fix = "set this host's clock by NTP; else tell the VTN's owner" if doubt else ""
    return _found(name, signal, Standing.OK, "; ".join(filter(None, (what, doubt))), fix)


def _failed(name: str, signal: Signal, what: str, status: int) -> SignalFound:
    for words, fix in _REMEDIES:
        if words in what:
            return _found(name, signal, Standing.WRONG, what, fix)
    if status in _LOGIN_STATUSES:
        secrets = "headers_file" if isinstance(signal, HttpFeed) else "the login, or its certificate,"
        return _found(name, signal, Standing.WRONG, what, f"is {secrets} right? Its owner can say")
    if status in _WRONG_STATUSES:
        return _found(name, signal, Standing.WRONG, what, "is url right?")
    if 200 <= status < 300 or "its answer" in what:
        return _found(name, signal, Standing.WRONG, what, "is url right, and kind?")
    return _found(name, signal, Standing.UNREACHABLE, what, "is its host up, and does a firewall let us out?")


def _found(name: str, signal: Signal, standing: Standing, what: str, fix: str) -> SignalFound:
    return SignalFound(name=name, kind=signal.kind.value, standing=standing, what=what, fix=fix)
