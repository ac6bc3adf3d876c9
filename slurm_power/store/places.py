"""Where powerctld's stores lie in its state directory, and how its series are opened there."""

from collections.abc import Mapping
from pathlib import Path

from slurm_power.config.store import StoreConfig
from slurm_power.ports import LocalStore, SeriesReader, SeriesWriter, StoreError
from slurm_power.store.old_samples import JoinedSeries, OldSamples
from slurm_power.store.prometheus import PrometheusWriter
from slurm_power.store.reading import SeriesReading
from slurm_power.store.retention import Keep
from slurm_power.store.series import DEFAULT_STEPS, SqliteSeries
from slurm_power.store.sqlite import SqliteStore

LEDGER_NAME = "powerctld.sqlite"
SERIES_NAME = "series.sqlite"


def open_store(config: StoreConfig, state_directory: Path) -> LocalStore:
    """Open ledger and metadata; with ``ledger_url`` they are copied there, and taken over from there if new.

    Raises StoreError if a new store cannot take over, or the library for it is missing.
    """
    local = SqliteStore(state_directory / LEDGER_NAME)
    url = config.ledger_url
    if url is None:
        return local
    try:
        from slurm_power.store.mirror import MirroredStore, take_over  # noqa: PLC0415  # an extra
        from slurm_power.store.postgres import PostgresStore  # noqa: PLC0415  # an extra

        if next(local.rows(most=1), None) is None:
            copy = PostgresStore(url)
            try:
                take_over(local, copy)
            finally:
                copy.close()
    except ImportError as error:
        local.close()
        raise StoreError(f"needs the extra postgres ({error}); pip install 'slurm-power[postgres]'") from None
    except StoreError as error:
        local.close()
        raise StoreError(f"{error}; a new controller has to see once where its ledger ended") from error
    return MirroredStore(local, lambda: PostgresStore(url))


def open_series_writer(config: StoreConfig, state_directory: Path, site: str) -> SeriesWriter:
    """Open the series of a site for writing, where ``config`` says; raises StoreError."""
    if config.series_url is not None:
        return PrometheusWriter(config.series_url, site)
    steps: Mapping[str, float] = {**DEFAULT_STEPS, "watts": config.resolution_watts}
    keep = Keep(
        raw_days=config.raw_days,
        minute_days=config.minute_days,
        quarter_hour_days=config.quarter_hour_days,
        disk_budget_bytes=config.disk_budget_bytes,
    )
    return SqliteSeries(state_directory / SERIES_NAME, keep=keep, steps=steps)


def open_series_reader(state_directory: Path) -> SeriesReader:
    """Open what a state directory, or a copy of it, has of series, old ones included; raises StoreError."""
    readers: list[SeriesReader] = []
    if (state_directory / LEDGER_NAME).is_file():
        readers.append(OldSamples(state_directory / LEDGER_NAME))
    if (state_directory / SERIES_NAME).is_file():
        readers.append(SeriesReading.open(state_directory / SERIES_NAME))
    return JoinedSeries(readers)
