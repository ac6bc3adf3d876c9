"""Start a daemon whose libraries are an extra, and say in a line which one where they are not installed."""

import importlib
import importlib.util
import sys

_EXIT_NOT_INSTALLED = 1


def run(module: str, *, extra: str, later: tuple[str, ...] = ()) -> int:
    """Run ``main`` of a module, and return its exit status; 1 where a library of its ``extra`` is missing.

    ``later`` are those that are only loaded once they are needed.
    """
    missing = next((name for name in later if importlib.util.find_spec(name) is None), None)
    if missing is None:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "slurm_power":
                raise
            missing = error.name
    if missing is not None:
        program = module.rpartition(".")[2].removesuffix("_run")
        print(f"{program} needs {missing}: pip install 'slurm-power[{extra}]'", file=sys.stderr)
        return _EXIT_NOT_INSTALLED
    status: int = found.main()
    return status
