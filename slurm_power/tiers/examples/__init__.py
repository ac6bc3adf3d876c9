"""Tasks that come with this package, to try tiers on and to copy from."""
