"""What a metric's name tells: whether more of it is better, and whether it is a share from 0 to 1."""

_RATIOS = ("accuracy", "f1", "precision", "recall", "auc", "auroc")
_DISTINCT = "distinct"
_LOWER = (
    "loss",
    "perplexity",
    "ppl",
    "error",
    "error_rate",
    "wer",
    "cer",
    "mae",
    "mse",
    "rmse",
    "nll",
    "cross_entropy",
)


def is_ratio(metric: str) -> bool:
    """Whether the metric is by its definition a share from 0 to 1, such as ``accuracy`` or ``macro_f1``."""
    name = metric.lower()
    return name.startswith(f"{_DISTINCT}_") or _ends_with(name, _RATIOS)


def known_direction(metric: str) -> bool | None:
    """Whether more of the metric is better; None for a name that does not tell."""
    if is_ratio(metric):
        return True
    return False if _ends_with(metric.lower(), _LOWER) else None


def _ends_with(name: str, words: tuple[str, ...]) -> bool:
    return any(name == word or name.endswith(f"_{word}") for word in words)
