"""Tests of powerweb."""
