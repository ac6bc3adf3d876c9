"""psbatch against sbatch: the same several hundred invocations through both, on a real cluster, compared.

- ``case.py``       one invocation as data; ``cases_*.py`` hold them, in groups; ``options.py`` has a row each
- ``slurm.py``      the seam: what a cluster must offer, and the local one
- ``runner.py``     runs a group's cases through both commands and collects what Slurm then holds
- ``background.py`` submissions with ``--wait`` and jobs that run, beside the groups
- ``record.py``     compares: what may differ by nature, and what we set ourselves, each named there, once
- ``test_*.py``     the tests; each case is a test of its own name

**Another Slurm.** The suite talks to a cluster through ``slurm.Slurm`` only. Set ``SLURM_POWER_TEST_SLURM``
to ``package.module:function``. The function is called without arguments and returns a context manager that
yields a ``Slurm``, with these promises:

- users ``alice`` and ``bob`` exist, have accounts and may submit to the default partition; nodes c1 and c2;
- ``sbatch`` and ``psbatch`` are on their PATH, with the project's SPANK plugin and job_submit.lua in place;
- ``home`` is a folder of alice's that others may enter, under the same path inside and outside;
- ``state`` is slurmctld's StateSaveLocation as seen from outside; accounting is on, the cluster is named lab.

Options that an older or newer sbatch does not know are cases all the same: both commands must refuse them in
the same words.
"""
