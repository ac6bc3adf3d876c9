"""What survives a restart: the ledger, the series, and the controller's own leases."""
