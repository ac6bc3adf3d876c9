"""Inference services: one address for clients, one tier behind it at a time, changed without downtime."""
