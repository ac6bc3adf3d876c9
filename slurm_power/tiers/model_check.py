"""Whether a tier's model on disk is the one that its quality was measured with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm_power.model.tier import Catalog, Tier
from slurm_power.tiers.catalog_tier import is_address
from slurm_power.tiers.model_sum import file_sha256


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """What was found of one model; ``refused`` empty for a good one, ``unseen`` where nobody could look."""

    refused: str = ""
    unseen: str = ""


def check_models(catalog: Catalog) -> dict[str, ModelFinding]:
    """Read every model that the catalog names, and say what is wrong with it, by the tier's full name.

    Reads all their bytes: a model of 100 GB takes as long as the disk needs for that.
    """
    known = {
        tier.sha256: f"{family.name}/{tier.name}"
        for family in catalog.families.values()
        for tier in family.tiers
        if tier.sha256
    }
    found = {
        f"{family.name}/{tier.name}": _check(tier, known)
        for family in catalog.families.values()
        for tier in family.tiers
        if tier.model_path
    }
    return {name: finding for name, finding in found.items() if finding != ModelFinding()}


def _check(tier: Tier, known: Mapping[str, str]) -> ModelFinding:
    if is_address(tier.model_path):
        return ModelFinding(unseen=f"its model at {tier.model_path} lies elsewhere and was not checked")
    path = Path(tier.model_path)
    try:
        if not path.exists():
            return ModelFinding(refused=f"its model is not there: {path}")
        total = file_sha256(path) if tier.sha256 else ""
    except OSError as error:
        return ModelFinding(unseen=f"its model could not be checked: {error.strerror or error}")
    if total == tier.sha256:
        return ModelFinding()
    if total in known:
        why = f"its model was swapped: what lies at {path} is that of {known[total]}"
    else:
        why = f"its model is corrupt or was changed: {path} has the sha256 {total}, not {tier.sha256}"
    return ModelFinding(refused=why)
