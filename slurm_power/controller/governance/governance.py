"""What of the controller has to do with the site's policy and its users' word on it, in one piece."""

from slurm_power.config import SiteConfig
from slurm_power.controller.governance.appeal_desk import AppealDesk
from slurm_power.controller.governance.control_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.governance.policy_desk import PolicyDesk


class Governance:
    """The policy's book, and the appeals."""

    def __init__(self, config: SiteConfig, store: States, *, note: Note) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self.policy = PolicyDesk(config, store, note=note)
        self.appeals = AppealDesk(store, most_open=config.governance.most_open_appeals, note=note)
