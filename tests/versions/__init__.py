"""Our parts on other versions of Slurm than the host's: ``make test-slurm-versions``.

``SLURM_POWER_TEST_VERSION`` names the version (24.11, 26.05); without it these tests are skipped. Tests of a
real Slurm in other folders run on it, too, where their cluster takes its ``slurm_root`` from ``chosen.py``.
"""
