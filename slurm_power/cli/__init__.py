"""Commands that users, operators and service managers start."""
