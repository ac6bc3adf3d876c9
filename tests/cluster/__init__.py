"""Tests of the lab, and the lab as fixtures for other tests."""
