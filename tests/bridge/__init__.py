"""Tests of what runs beside powerctld."""
