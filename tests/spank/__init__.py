"""Tests of the SPANK plugin and of job_submit, driven alone and on a real cluster."""
