"""The ledger for an auditor, and its proof."""
