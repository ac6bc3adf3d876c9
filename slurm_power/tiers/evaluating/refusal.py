"""What keeps a tier from being evaluated or served."""


class EvaluateError(ValueError):
    """One or more reasons, all told at once, each with what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems
