"""Model tiers: their catalog, how they are built, and how they are evaluated."""
