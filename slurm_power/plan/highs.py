"""HiGHS, the solver of every linear program here, without the banner that it prints as it is made."""

from dataclasses import dataclass, field

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

INFINITY: float = highspy.kHighsInf


class QuietHighs(highspy.Highs):
    """HiGHS prints its name at the moment it is made, ahead of any option: into the JSON of whoever asks."""

    def enableCallbacks(self) -> None:  # noqa: N802  # HiGHS's name; its constructor calls it first
        """Be silent before anything is said."""
        self.silent()
        super().enableCallbacks()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """An optimum: values of the columns, duals of the rows (what one more on the right costs), cost."""

    values: Floats
    row_duals: Floats
    cost: float


@dataclass(slots=True)
class Program:
    """A linear program in the making, to be minimised: columns with cost and bounds, then rows of entries.

    The entries of all rows come as three arrays each time: row, column, value.
    """

    cost: list[Floats] = field(default_factory=list)
    lower: list[Floats] = field(default_factory=list)
    upper: list[Floats] = field(default_factory=list)
    row_lower: list[Floats] = field(default_factory=list)
    row_upper: list[Floats] = field(default_factory=list)
    entries: list[tuple[Integers, Integers, Floats]] = field(default_factory=list)
    columns: int = 0
    rows: int = 0

    def add_columns(self, cost: Floats, lower: Floats, upper: Floats) -> Integers:
        """New columns; returns their numbers."""
        first, self.columns = self.columns, self.columns + len(cost)
        self.cost.append(cost)
        self.lower.append(lower)
        self.upper.append(upper)
        return np.arange(first, self.columns, dtype=np.int32)

    def add_rows(self, lower: Floats, upper: Floats) -> Integers:
        """New rows without entries; returns their numbers."""
        first, self.rows = self.rows, self.rows + len(lower)
        self.row_lower.append(lower)
        self.row_upper.append(upper)
        return np.arange(first, self.rows, dtype=np.int32)

    def enter(self, rows: Integers, columns: Integers, values: Floats | float) -> None:
        """Entries of the matrix; one value stands for all."""
        self.entries.append((rows, columns, np.broadcast_to(np.asarray(values, np.float64), rows.shape)))

    def solved(self, most_seconds: float = 60.0) -> Floats | None:
        """The values of the columns; None where the solver finds no optimum in time."""
        found = self.solution(most_seconds)
        return None if found is None else found.values

    def solution(self, most_seconds: float = 60.0) -> Solution | None:
        """The optimum; None where the solver finds none in time."""
        solver = QuietHighs()  # type: ignore[no-untyped-call]
        # Not "threads": HiGHS has one pool for the process, and fails where two programs want it of two
        # sizes.
        for option, value in (("output_flag", False), ("parallel", "off"), ("time_limit", most_seconds)):
            solver.setOptionValue(option, value)
        solver.passModel(self._model())
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = solver.getSolution()
        return Solution(
            values=np.array(solution.col_value),
            row_duals=np.array(solution.row_dual),
            cost=float(solver.getInfo().objective_function_value),
        )

    def _model(self) -> highspy.HighsLp:
        rows = np.concatenate([entry[0] for entry in self.entries])
        columns = np.concatenate([entry[1] for entry in self.entries])
        values = np.concatenate([entry[2] for entry in self.entries])
        order = np.argsort(rows, kind="stable")
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.columns, self.rows
        model.col_cost_ = np.concatenate(self.cost)
        model.col_lower_, model.col_upper_ = np.concatenate(self.lower), np.concatenate(self.upper)
        model.row_lower_, model.row_upper_ = np.concatenate(self.row_lower), np.concatenate(self.row_upper)
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=self.rows))])
        model.a_matrix_.index_, model.a_matrix_.value_ = columns[order], values[order]
        return model
