"""What ``psbatch --help`` says before sbatch says its own."""

HELP = """\
Usage: psbatch [options about power] [any option of sbatch] SCRIPT [ARGUMENTS]

Submits a batch job just as sbatch does, and says what the site may do with its power:

  --workload=CLASS    what the job does: training, inference or generation
  --flex=FLEX         how much it may be slowed down, or held for that share of its time limit, to keep the
                      site inside its limit: flex0 not at all, flex1 10 %, flex2 25 %, flex3 50 % (or 0 to 3)
  --max-hold=TIME     the longest it may be held before it starts, however flexible it is: 30 (minutes),
                      HH:MM:SS, D-HH:MM or 90s, 15m, 2h, 1d; 0: never
  --finish-by=MOMENT  do not let power make it end later than this: 2026-12-24T18:00, 18:00, now+8hours.
                      Slurm does not end the job then (its own --deadline would)
  --power-cap=WATTS   a limit of your own on each of its GPUs: 400, 400W or 0.4kW
  --tier=FAMILY/TIER  the model tier that it runs, as a catalog has it (slurm-power tiers list); its sbatch
                      options and variables are added where you say nothing of these yourself
  --tiers-ok=TIERS    tiers of that family it may be moved to when power is short: int8,small, or any;
                      none (the default): never. For a training name them
  --min-quality=N     the least quality of such a tier, in the family's metric: 0.95

These may also stand in the script (#PSBATCH --workload=training), in PSBATCH_WORKLOAD, PSBATCH_FLEX,
PSBATCH_MAX_HOLD, PSBATCH_FINISH_BY, PSBATCH_POWER_CAP, PSBATCH_TIER and so on, or as workload=..., flex=...,
max_hold=..., finish_by=..., power_cap=..., tier=... and so on in ~/.config/slurm-power/psbatch.conf. The
command line counts first, then the script, the environment, your file, the site's defaults.

Instead of a submission:

  --explain           what the job should draw and cost, when it should start, what flexibility would change
                      (exit status 1 where the power controller cannot be asked)
  --dry-run           how sbatch would be started, where each value comes from, what sbatch --test-only says
  --print-script      the script with the values that count, as #PSBATCH lines
  --completion=SHELL  completion for bash, zsh or fish

  --json              with --explain, --dry-run or a submission: one JSON object on stdout

All options of sbatch work as well. What sbatch says:

"""
