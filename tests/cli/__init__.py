"""Tests of what users type."""
