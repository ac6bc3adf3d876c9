"""Curves for property tests: clean and concave, and noisy ones as measurements give them."""

from hypothesis import strategies as st

from slurm_power.plan.response import CapCurve

# Like the A100 measurements: power follows the cap until the workload's own draw.
CONCAVE = CapCurve(
    caps_watts=(100.0, 200.0, 300.0, 400.0),
    gpu_watts=(100.0, 195.0, 285.0, 350.0),
    performance_ratios=(0.25, 0.80, 0.95, 1.0),
)
# The third point lies below the line from the second to the last.
DENTED = CapCurve(
    caps_watts=(200.0, 300.0, 350.0, 400.0),
    gpu_watts=(195.0, 287.0, 331.0, 377.0),
    performance_ratios=(0.64, 0.866, 0.912, 1.0),
)
# A cap changes nothing: only pausing saves.
DEAF = CapCurve(
    caps_watts=(200.0, 300.0, 400.0), gpu_watts=(150.0, 151.0, 150.0), performance_ratios=(1.0, 0.99, 1.0)
)
ONE_POINT = CapCurve(caps_watts=(400.0,), gpu_watts=(300.0,), performance_ratios=(1.0,))


@st.composite
def curves(draw: st.DrawFn) -> CapCurve:
    """Any curve of 1 to 6 caps; watts and performance may fall where the cap rises, and pass the uncapped."""
    caps = sorted(draw(st.sets(st.integers(20, 80), min_size=1, max_size=6)))
    watts = [cap * 10.0 * draw(st.floats(0.5, 1.05)) for cap in caps]
    top = caps[-1]
    performance = [min(1.2, (cap / top) ** 0.6 * draw(st.floats(0.8, 1.1))) for cap in caps]
    return CapCurve(
        caps_watts=tuple(cap * 10.0 for cap in caps),
        gpu_watts=tuple(watts),
        performance_ratios=(*performance[:-1], 1.0),
    )


any_curve = st.one_of(st.sampled_from((CONCAVE, DENTED, DEAF, ONE_POINT)), curves())
