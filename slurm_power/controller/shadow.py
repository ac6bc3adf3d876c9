"""What was wished for in shadow mode: each wish is news once."""

from collections.abc import Collection

from slurm_power.model.action import Action, SetDischarge


class ShadowNews:
    """Remembers wishes by their kind and job."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def is_new(self, action: Action) -> bool:
        """Whether it was not wished for before; from now on it was."""
        key = (type(action).__name__, "" if isinstance(action, SetDischarge) else action.job_id)
        news = key not in self._seen
        self._seen.add(key)
        return news

    def keep(self, job_ids: Collection[str]) -> None:
        """Forget jobs that are gone."""
        self._seen = {(kind, job_id) for kind, job_id in self._seen if not job_id or job_id in job_ids}
