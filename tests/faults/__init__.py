"""Tests of the fault trials themselves, and a seeded few hundred of them."""
