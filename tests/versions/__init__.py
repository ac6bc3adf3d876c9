"""Our parts on other versions of Slurm than the host's: ``make test-slurm-versions``.

``SLURM_POWER_TEST_VERSION`` names the version (24.11, 26.05); without it these tests are skipped. Other folders'
tests of a real Slurm run on it, too, where their cluster takes its ``slurm_root`` from ``chosen.py``.
"""
