"""Any tariff file into the rules that a month is billed by."""

from pathlib import Path

from slurm_power.model.billing_rules import BillingRules
from slurm_power.signals.held_file import SupplyFileError
from slurm_power.signals.tariff_file import read_document, tariff_and_rules


def read_billing_rules(file: Path) -> BillingRules:
    """Read our TOML or an ACN-Sim JSON schedule; raises SupplyFileError with all problems."""
    document = read_document(file)
    if not isinstance(document, dict):
        raise SupplyFileError([f"{file}: holds no table"])
    problems: list[str] = []
    _, rules = tariff_and_rules(document, file, problems)
    if problems:
        raise SupplyFileError([f"{file}: {problem}" for problem in problems])
    return rules
