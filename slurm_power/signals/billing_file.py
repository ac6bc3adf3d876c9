"""Any tariff file into the rules that a month is billed by."""

from pathlib import Path

from slurm_power.model.billing_rules import BillingRules
from slurm_power.signals.held_file import SupplyFileError, with_choice
from slurm_power.signals.tariff_file import read_document, tariff_and_rules
from slurm_power.signals.tariff_urdb import is_urdb, read_urdb


def read_billing_rules(file: Path, rate: str | None = None) -> BillingRules:
    """Read a tariff: our TOML, an ACN-Sim JSON schedule or URDB JSON, told apart by ending and content.

    A URDB file of several rates needs a choice by label or name, as ``rate`` or as FILE#LABEL. Raises
    SupplyFileError with all problems.
    """
    file, choice = with_choice(file)
    choice = rate or choice
    document = read_document(file)
    problems: list[str] = []
    if file.suffix == ".json" and is_urdb(document):
        rules = read_urdb(document, choice, problems)
    elif not isinstance(document, dict):
        raise SupplyFileError([f"{file}: holds no table"])
    else:
        _, rules = tariff_and_rules(document, file, problems)
        if choice is not None:
            problems.append(f"#{choice}: the file holds one tariff; only URDB files hold several")
    if problems:
        raise SupplyFileError([f"{file}: {problem}" for problem in problems])
    return rules
