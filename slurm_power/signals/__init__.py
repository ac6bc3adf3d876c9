"""Edges to what comes from outside the site: prices, carbon, limits and tariffs, read from files so far."""
