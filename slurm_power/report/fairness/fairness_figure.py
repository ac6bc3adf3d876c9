"""How losses lie on users: one step a user, from who lost most to who lost nothing."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from slurm_power.report.frame.drawing import CAPS, WITHOUT, style, svg


def fairness_figure(lost_ratios: Sequence[float], words: str) -> str:
    """Draw the lost shares, largest first, as inline SVG; ``words`` tell a screen reader what it shows."""
    with style("fairness"):
        figure = Figure(figsize=(9.2, 2.6), facecolor="none")
        axes = figure.add_subplot()
        percent = sorted((100.0 * ratio for ratio in lost_ratios), reverse=True)
        edges = [float(number) for number in range(len(percent) + 1)]
        axes.stairs(percent, edges, fill=True, color=CAPS, alpha=0.8)
        mean = sum(percent) / len(percent) if percent else 0.0
        axes.axhline(mean, color=WITHOUT, lw=1.0, ls="--", label=f"mean {mean:.2f} %")
        axes.set_xlim(0.0, max(1.0, float(len(percent))))
        axes.set_ylim(0.0, max(1.0, 1.1 * max(percent, default=0.0)))
        axes.set_xlabel("users, who lost most first")
        axes.set_ylabel("GPU time lost (%)")
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        return svg(figure, "fairness", "How losses lie on users", words)
