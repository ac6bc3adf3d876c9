"""Installing, checking, upgrading, removing."""
