"""What goes wrong beside the control is told once, and breaks nothing."""

from slurm_power.controller.beside import Beside


def test_a_fault_is_told_once_and_so_is_its_end() -> None:
    faults: list[tuple[str, str]] = []
    beside = Beside(lambda name, text: faults.append((name, text)))
    errors = [ZeroDivisionError("a"), ZeroDivisionError("a"), KeyError("b"), None, None]
    done = []

    def step() -> None:
        error = errors.pop(0)
        if error is not None:
            raise error
        done.append(True)

    for _ in range(5):
        beside.do("forecast", step)
    assert faults == [
        ("forecast", "it went wrong: ZeroDivisionError: a"),
        ("forecast", "it went wrong: KeyError: 'b'"),
        ("forecast", ""),
    ]
    assert done == [True, True]
