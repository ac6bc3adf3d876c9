"""Tests of the documents: what they name exists, what they list is complete."""
