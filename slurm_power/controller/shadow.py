"""What was wished for in shadow mode: each wish is news once."""

from collections.abc import Iterable

from slurm_power.model.action import Action, SetDischarge, SwitchService


class ShadowNews:
    """Remembers wishes: ``seen`` are their kinds and jobs."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def is_new(self, action: Action) -> bool:
        """Whether it was not wished for before; from now on it was."""
        job_id = "" if isinstance(action, SetDischarge | SwitchService) else action.job_id
        key = (type(action).__name__, job_id)
        news = key not in self.seen
        self.seen.add(key)
        return news

    def keep(self, job_ids: Iterable[str]) -> None:
        """Forget jobs that are gone."""
        known = {"", *job_ids}
        self.seen = {(kind, job_id) for kind, job_id in self.seen if job_id in known}
