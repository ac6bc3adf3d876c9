"""What the caller's environment can hold, and what becomes of it in the job's."""

from collections.abc import Iterator

from tests.compat.case import Case

Values = dict[str, str | bytes | None]


def cases() -> Iterator[Case]:
    """Make all of them."""
    for name, values in {**_odd_values(), **_of_slurm(), **_of_locales(), **_of_interpreters()}.items():
        yield Case(name=name, words=("job.sh", "x"), environment=values)
    for name, value in _exports().items():
        yield Case(
            name=f"export {name}",
            words=(f"--export={value}", "job.sh"),
            environment={"OWN": "own", "EMPTY": ""},
        )
    yield from _started_otherwise()


def _odd_values() -> dict[str, Values]:
    return {
        "plain": {},
        "an empty value": {"EMPTY": ""},
        "blanks": {"OWN": "  two  words "},
        "newlines": {"OWN": "one\ntwo\n"},
        "an equals sign": {"OWN": "a=b=c"},
        "quotes": {"OWN": 'it\'s "quoted" $HOME `id`'},
        "non-UTF-8": {"OWN": b"\xff\xfe\x80"},
        "a control character": {"OWN": "\x1b[31m\x07"},
        "other letters": {"OWN": "größe 名前", "GRÖSSE": "1"},
        "a name with a blank": {"two words": "1"},
        "a name that starts with a digit": {"1st": "1"},
        "a shell function": {"BASH_FUNC_module%%": "() {  eval `modulecmd bash $*`\n}"},
        "long": {"OWN": "x" * 100_000},
        "many": {f"OWN_{number}": str(number) for number in range(2000)},
        "no HOME": {"HOME": None},
        "no USER": {"USER": None, "LOGNAME": None},
        "no SHELL": {"SHELL": None},
        "another HOME": {"HOME": "/nowhere"},
        "XDG_CONFIG_HOME": {"XDG_CONFIG_HOME": "/nowhere"},
        "a time zone": {"TZ": "Asia/Tokyo"},
        "a time zone that is none": {"TZ": "Moon/Base"},
        "COLUMNS": {"COLUMNS": "20"},
        "POSIXLY_CORRECT": {"POSIXLY_CORRECT": "1"},
    }


def _of_slurm() -> dict[str, Values]:
    return {
        "SLURM_CONF missing": {"SLURM_CONF": None},
        "SLURM_CLUSTERS": {"SLURM_CLUSTERS": "lab"},
        "SLURM_EXIT_ERROR": {"SLURM_EXIT_ERROR": "77", "SBATCH_PARTITION": "side"},
        "SLURM_EXIT_IMMEDIATE": {"SLURM_EXIT_IMMEDIATE": "78"},
        "SLURM_UMASK": {"SLURM_UMASK": "0007"},
        "SBATCH_WAIT4SWITCH": {"SBATCH_REQ_SWITCH": "1", "SBATCH_WAIT4SWITCH": "5"},
        "SLURM_NTASKS_PER_NODE": {"SLURM_NTASKS_PER_NODE": "2", "SLURM_OPEN_MODE": "t"},
        "SLURM_HINT": {"SLURM_HINT": "nomultithread"},
        "SLURM_TIME_FORMAT": {"SLURM_TIME_FORMAT": "relative"},
        "SLURM_DEBUG_FLAGS": {"SLURM_DEBUG_FLAGS": "NodeFeatures"},
        "within a job": {"SLURM_JOB_ID": "1", "SLURM_JOBID": "1", "SLURM_NTASKS": "3", "SLURM_NNODES": "2"},
        "within a job of ours": {
            "SLURM_JOB_NAME": "outer",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_TASKS_PER_NODE": "2",
        },
        "SPANK of an outer job": {"SLURM_SPANK_OTHER": "1", "SPANK_OTHER": "2"},
        "several SBATCH": {
            "SBATCH_TIMELIMIT": "9",
            "SBATCH_QOS": "flexible",
            "SBATCH_JOB_NAME": "from variables",
        },
        "SBATCH empty": {"SBATCH_TIMELIMIT": "", "SBATCH_PARTITION": "", "SBATCH_ACCOUNT": ""},
        "SBATCH unknown": {"SBATCH_NOVELTY": "1"},
        "SBATCH bad number": {"SBATCH_CPUS_PER_GPU": "x", "SBATCH_THREAD_SPEC": "y"},
        "SBATCH_EXPORT and others": {"SBATCH_EXPORT": "OWN", "OWN": "own", "OTHER": "other"},
        "SBATCH_OUTPUT with numbers": {"SBATCH_OUTPUT": "%u/%x.%j.%N.out"},
        "SBATCH_WAIT off": {"SBATCH_WAIT_ALL_NODES": "0", "SBATCH_IGNORE_PBS": "1"},
    }


def _of_locales() -> dict[str, Values]:
    return {
        "no locale": {"LANG": None},
        "C": {"LANG": None, "LC_ALL": "C"},
        "POSIX": {"LANG": "POSIX"},
        "LC_CTYPE given": {"LANG": None, "LC_CTYPE": "C"},
        "LC_CTYPE given, UTF-8": {"LANG": None, "LC_CTYPE": "C.UTF-8"},
        "LC_CTYPE empty": {"LANG": None, "LC_CTYPE": ""},
        "a locale that is not there": {"LANG": "xx_YY.UTF-8"},
        "LANGUAGE": {"LANG": "de_DE.UTF-8", "LANGUAGE": "de"},
        "no locale, non-UTF-8": {"LANG": None, "OWN": b"\xff\xfe"},
    }


def _of_interpreters() -> dict[str, Values]:
    """What people set for their own Python must be without effect on ours, and reach the job."""
    return {
        "PYTHONHOME wrong": {"PYTHONHOME": "/nowhere"},
        "PYTHONSTARTUP": {"PYTHONSTARTUP": "/nowhere/start.py"},
        "PYTHONWARNINGS": {"PYTHONWARNINGS": "error"},
        "PYTHONVERBOSE": {"PYTHONVERBOSE": "1"},
        "PYTHONINSPECT": {"PYTHONINSPECT": "1"},
        "PYTHONUTF8 wrong": {"PYTHONUTF8": "x"},
        "PYTHONUTF8": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "PYTHONCOERCECLOCALE warns": {"PYTHONCOERCECLOCALE": "warn", "LC_ALL": None, "LANG": "C"},
        "PYTHONIOENCODING wrong": {"PYTHONIOENCODING": "nonsense"},
        "PYTHONHASHSEED wrong": {"PYTHONHASHSEED": "x"},
        "PYTHONMALLOC wrong": {"PYTHONMALLOC": "x"},
        "PYTHONOPTIMIZE": {"PYTHONOPTIMIZE": "2"},
        "PYTHONPROFILEIMPORTTIME": {"PYTHONPROFILEIMPORTTIME": "1"},
        "PYTHONDEVMODE": {"PYTHONDEVMODE": "1"},
        "PYTHONTRACEMALLOC wrong": {"PYTHONTRACEMALLOC": "x"},
        "PYTHONPLATLIBDIR": {"PYTHONPLATLIBDIR": "elsewhere"},
        "PYTHONDUMPREFS": {"PYTHONDUMPREFS": "1", "PYTHONDUMPREFSFILE": "refs"},
        "PYTHONFAULTHANDLER": {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1"},
        "PYTHONBREAKPOINT": {"PYTHONBREAKPOINT": "nowhere.at_all", "PYTHONSAFEPATH": "1"},
        "a virtual environment": {"VIRTUAL_ENV": "/nowhere/venv", "CONDA_PREFIX": "/nowhere/conda"},
        "LD_LIBRARY_PATH": {"LD_LIBRARY_PATH": "/nowhere/lib"},
    }


def _exports() -> dict[str, str]:
    return {
        "NIL": "NIL",
        "a name": "OWN",
        "two names": "OWN,HOME",
        "a missing name": "MISSING",
        "an empty one": "EMPTY",
        "a value": "FRESH=1,OWN",
        "all and a value": "ALL,FRESH=1",
        "none and a value": "NONE,FRESH=1",
        "quoted commas": "FRESH='a,b',OWN",
        "an empty list": "",
        "lower case": "none",
        "only a comma": ",",
    }


def _started_otherwise() -> Iterator[Case]:
    """An own Python module in the way, no environment at all, one with the same name twice."""
    broken = b"raise RuntimeError('the wrong module')\n"
    names = (
        "os",
        "signal",
        "site",
        "sitecustomize",
        "usercustomize",
        "slurm_power",
        "posixpath",
        "encodings",
    )
    files = {"job.sh": b"#!/bin/sh\n", **{f"modules/{name}.py": broken for name in names}}
    yield Case(
        name="PYTHONPATH in the way",
        words=("job.sh",),
        files=files,
        through='PYTHONPATH="$PWD/modules" exec "$@"',
        environment={"PYTHONPATH": None},
    )
    here = {"job.sh": b"#!/bin/sh\n", **{f"{name}.py": broken for name in names}}
    yield Case(name="modules in the folder", words=("job.sh",), files=here)
    yield Case(
        name="PYTHONPATH is the folder", words=("job.sh",), files=here, through='PYTHONPATH=. exec "$@"'
    )
    yield Case(
        name="next to nothing",
        words=("job.sh",),
        through='exec env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" "$@"',
    )
    user_base = {"job.sh": b"#!/bin/sh\n", "lib/python3.11/site-packages/usercustomize.py": broken}
    yield Case(
        name="PYTHONUSERBASE", words=("job.sh",), files=user_base, through='PYTHONUSERBASE="$PWD" exec "$@"'
    )
