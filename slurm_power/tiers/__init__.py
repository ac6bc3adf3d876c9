"""Model tiers: the catalog, what is wrong with it, and (in sub-packages with torch) how they are made."""
