"""Reads the file that describes a service; every problem at once, each with its key and what to write."""

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from slurm_power.config.problems import ConfigError, check_keys, read_record, read_toml, subtables
from slurm_power.gateway.members import Limits
from slurm_power.model.tier import ANY_TIER

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_SERVICE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME_HINT = "use a-z, 0-9, '.', '_', '-', at most 32 characters"
_METHODS = ("GET", "POST", "PUT", "HEAD")
_PATH = re.compile(r"/[A-Za-z0-9/._~@:?&=%+,-]{0,255}")
_PRINTABLE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpRequest:
    """What a new tier has to answer with a status below 400 before clients reach it."""

    path: str
    method: str = "GET"
    body: str = ""
    content_type: str = "application/json"
    timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHaproxy:
    """A HAProxy that somebody else runs: the gateway changes the servers of one backend of it."""

    socket: Path
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TierJob:
    """How one tier's job is submitted."""

    script: Path
    sbatch: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFile:
    """A service as its owner describes it. ``tiers`` has the job of each tier that is named.

    ``any_job`` is the job of a tier that only the catalog names, None where ``tiers_ok`` is no ``any``.
    """

    path: Path
    name: str
    family: str
    full_tier: str
    tiers_ok: tuple[str, ...]
    listen: str
    directory: Path
    tiers: Mapping[str, TierJob]
    any_job: TierJob | None = None
    submit: tuple[str, ...] = ("psbatch",)
    min_quality: float | None = None
    account: str = ""
    certificate: Path | None = None
    health_path: str = "/health"
    address_file: str = "inference-{job_id}.address"
    stream_idle_seconds: float = 120.0
    most_connections: int = 4000
    warm_up: WarmUpRequest | None = None
    haproxy: SiteHaproxy | None = None
    limits: Limits = field(default_factory=Limits)

    def job_of(self, tier: str) -> TierJob | None:
        """The job of a tier, None where the service may not run it."""
        return self.tiers.get(tier, self.any_job if _NAME.fullmatch(tier) else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """The keys of the file's head that need no more than their kind."""

    name: str
    family: str
    full_tier: str
    script: str = ""
    listen: str = ""
    directory: str = "."
    submit: tuple[str, ...] = ("psbatch",)
    sbatch: tuple[str, ...] = ()
    min_quality: float | None = None
    account: str = ""
    certificate: str = ""
    health_path: str = "/health"
    address_file: str = "inference-{job_id}.address"
    stream_idle_seconds: float = 120.0
    most_connections: int = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class _TierTable:
    script: str = ""
    sbatch: tuple[str, ...] = ()


def read_service(path: Path) -> ServiceFile:
    """Read a service file; raises ConfigError with all its problems. Relative paths are the file's own."""
    document = read_toml(path)
    problems: list[str] = []
    # An absolute path for the jobs, kept as it is written: links stay links.
    folder = path.absolute().parent
    tiers_ok = _tiers_ok(document.pop("tiers_ok", []), problems)
    environment = _environment(document.pop("environment", {}), "environment", problems)
    tables = subtables(document, "tier", problems)
    limits = _limits(document.get("limits", {}), problems)
    warm_up = _table(WarmUpRequest, document, "warm_up", problems)
    haproxy = _table(SiteHaproxy, document, "haproxy", problems)
    head = {key: value for key, value in document.items() if key not in _TABLES}
    near = {field.name for field in fields(_Plain)} | _TABLES | {"tiers_ok", "environment"}
    check_keys(head, near, "", problems)
    known = {field.name for field in fields(_Plain)}
    plain = read_record(_Plain, {key: value for key, value in head.items() if key in known}, "", problems)
    if plain is None:
        raise ConfigError(path, problems)
    _check_plain(plain, folder, haproxy, problems)
    if warm_up is not None:
        _check_warm_up(warm_up, problems)
    jobs = _jobs(plain, tables, tiers_ok, environment, folder=folder, problems=problems)
    if problems:
        raise ConfigError(path, problems)
    common = TierJob(script=folder / plain.script, sbatch=plain.sbatch, environment=environment)
    return ServiceFile(
        path=path.absolute(),
        name=plain.name,
        family=plain.family,
        full_tier=plain.full_tier,
        tiers_ok=tiers_ok,
        listen=plain.listen,
        directory=folder / plain.directory,
        tiers=jobs,
        any_job=common if ANY_TIER in tiers_ok else None,
        submit=plain.submit,
        min_quality=plain.min_quality,
        account=plain.account,
        certificate=folder / plain.certificate if plain.certificate else None,
        health_path=plain.health_path,
        address_file=plain.address_file,
        stream_idle_seconds=plain.stream_idle_seconds,
        most_connections=plain.most_connections,
        warm_up=warm_up,
        haproxy=haproxy,
        limits=limits,
    )


_TABLES = {"tier", "limits", "warm_up", "haproxy"}


def _table(record: type[Any], document: dict[str, Any], key: str, problems: list[str]) -> Any:
    table = document.get(key)
    if table is None:
        return None
    if not isinstance(table, dict):
        problems.append(f"{key}: must be a table, write [{key}]")
        return None
    return read_record(record, table, f"{key}.", problems)


def _tiers_ok(value: object, problems: list[str]) -> tuple[str, ...]:
    if value == ANY_TIER:
        return (ANY_TIER,)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        problems.append('tiers_ok: must be a list of tiers such as ["int8", "small"], or "any"')
        return ()
    if ANY_TIER in value and len(value) > 1:
        problems.append('tiers_ok: "any" stands alone')
    problems += [
        f"tiers_ok: {name!r} is no tier's name; {_NAME_HINT}" for name in value if not _NAME.fullmatch(name)
    ]
    return tuple(sorted(set(value)))


def _environment(value: object, path: str, problems: list[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        problems.append(f'{path}: must be a table of variables, such as {{ BATCH = "64" }}')
        return {}
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            problems.append(f"{path}.{name}: is no variable's name")
        if not isinstance(text, str) or "\0" in text:
            problems.append(f"{path}.{name}: must be a string, not {text!r}")
    return value


def _limits(value: object, problems: list[str]) -> Limits:
    if not isinstance(value, dict):
        problems.append("limits: must be a table, write [limits]")
        return Limits()
    limits = read_record(Limits, value, "limits.", problems)
    if limits is None:
        return Limits()
    for entry in fields(Limits):
        seconds = getattr(limits, entry.name)
        if not (math.isfinite(seconds) and 0.0 <= seconds <= 7.0 * 86400.0):
            problems.append(f"limits.{entry.name}: must be between 0 and 604800 seconds, not {seconds:g}")
    if limits.least_drain_seconds > limits.drain_seconds:
        problems.append("limits.least_drain_seconds: must not be above drain_seconds")
    return limits


def _check_plain(plain: _Plain, folder: Path, haproxy: SiteHaproxy | None, problems: list[str]) -> None:
    if not _SERVICE_NAME.fullmatch(plain.name):
        problems.append(f"name: {plain.name!r}; use a-z, 0-9 and '-', at most 32 characters")
    problems += [
        f"{key}: {getattr(plain, key)!r}; {_NAME_HINT}"
        for key in ("family", "full_tier")
        if not _NAME.fullmatch(getattr(plain, key))
    ]
    if haproxy is None:
        _check_listen(plain.listen, problems)
    elif plain.listen or plain.certificate:
        problems.append("listen: is for the site's HAProxy to say where [haproxy] names one; leave it out")
    if not plain.submit:
        problems.append('submit: must name a command, such as ["psbatch"]')
    if not (folder / plain.directory).is_dir():
        problems.append(f"directory: {folder / plain.directory} is no directory")
    if plain.certificate and not (folder / plain.certificate).is_file():
        problems.append(f"certificate: {folder / plain.certificate} is no file")
    _check_numbers(plain, problems)


def _check_numbers(plain: _Plain, problems: list[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9/._@+-]*", plain.certificate):
        problems.append("certificate: has characters that HAProxy's configuration cannot have")
    if not _PATH.fullmatch(plain.health_path):
        problems.append(f"health_path: {plain.health_path!r} must begin with / and have no blanks")
    if plain.address_file.count("{job_id}") != 1 or "/" in plain.address_file:
        problems.append(
            "address_file: must be a file's name with {job_id} in it, in the directory of the jobs"
        )
    if plain.min_quality is not None and not math.isfinite(plain.min_quality):
        problems.append(f"min_quality: {plain.min_quality} is no number")
    if not 1.0 <= plain.stream_idle_seconds <= 86400.0:
        problems.append("stream_idle_seconds: must be between 1 and 86400")
    if not 10 <= plain.most_connections <= 100_000:
        problems.append("most_connections: must be between 10 and 100000")


def _check_listen(listen: str, problems: list[str]) -> None:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        problems.append(f'listen: {listen!r} must be ADDRESS:PORT, such as "127.0.0.1:8080" or "*:8080"')
        return
    if host not in {"*", "localhost"}:
        try:
            ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            problems.append(f"listen: {host!r} is no address of this host; write numbers, localhost or *")


def _check_warm_up(warm_up: WarmUpRequest, problems: list[str]) -> None:
    if warm_up.method not in _METHODS:
        problems.append(f"warm_up.method: {warm_up.method!r} is not one of {', '.join(_METHODS)}")
    if not _PATH.fullmatch(warm_up.path):
        problems.append(f"warm_up.path: {warm_up.path!r} must begin with / and have no blanks")
    if not _PRINTABLE.fullmatch(warm_up.content_type):
        problems.append("warm_up.content_type: has characters that no header may have")
    if not 0.1 <= warm_up.timeout_seconds <= 3600.0:
        problems.append("warm_up.timeout_seconds: must be between 0.1 and 3600")


def _jobs(
    plain: _Plain,
    tables: Mapping[str, dict[str, Any]],
    tiers_ok: tuple[str, ...],
    environment: Mapping[str, str],
    *,
    folder: Path,
    problems: list[str],
) -> dict[str, TierJob]:
    """The job of each tier that is named anywhere."""
    jobs = {}
    named = [plain.full_tier, *(tier for tier in tiers_ok if tier != ANY_TIER)]
    for tier in sorted(set(named) | set(tables)):
        path = f"tier.{tier}."
        table = dict(tables.get(tier, {}))
        if tier not in named and ANY_TIER not in tiers_ok:
            problems.append(f"tier.{tier}: is neither full_tier nor in tiers_ok")
        own = _environment(table.pop("environment", {}), f"{path}environment", problems)
        record = read_record(_TierTable, table, path, problems)
        if record is None:
            continue
        script = record.script or plain.script
        if not script:
            problems.append(f"{path}script: missing, and there is no script for all tiers")
        elif not (folder / script).is_file():
            problems.append(f"{path if record.script else ''}script: {folder / script} is no file")
        jobs[tier] = TierJob(
            script=folder / script,
            sbatch=(*plain.sbatch, *record.sbatch),
            environment={**environment, **own},
        )
    if ANY_TIER in tiers_ok and not plain.script:
        problems.append('script: missing, and tiers_ok = "any" needs one for all tiers')
    return jobs
