"""Nouns of the domain: site, readings, jobs, actions, leases, ledger entries. Pure values, no I/O."""
