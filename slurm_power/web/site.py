"""What all endpoints share: the pictures, the keys, the readers and the line to powerctld."""

from dataclasses import dataclass

from slurm_power.config import SiteConfig
from slurm_power.web.asking import Ask, Asking
from slurm_power.web.calls import Endpoint
from slurm_power.web.keys import FILE_NAME, Keys
from slurm_power.web.people import People
from slurm_power.web.pictures import Pictures
from slurm_power.web.stored import Stored
from slurm_power.web.stream import Streams
from slurm_power.web.throttle import Throttle


@dataclass(slots=True, kw_only=True)
class Web:
    """One powerweb."""

    config: SiteConfig
    table: tuple[Endpoint, ...]
    keys: Keys
    people: People
    pictures: Pictures
    streams: Streams
    asking: Asking
    stored: Stored
    throttle: Throttle


def make_web(
    config: SiteConfig,
    ask: Ask,
    table: tuple[Endpoint, ...],
) -> Web:
    """Put one together; raises KeysError."""
    keys = Keys(config.controller.state_directory / FILE_NAME)
    pictures = Pictures(ask)
    return Web(
        config=config,
        table=table,
        keys=keys,
        people=People(config.web, keys),
        pictures=pictures,
        streams=Streams(pictures, most=config.web.most_clients),
        asking=Asking(ask, per_second=config.web.calls_per_second),
        stored=Stored(config),
        throttle=Throttle(),
    )
