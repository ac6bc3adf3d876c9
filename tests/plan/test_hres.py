"""The circuit tree as layers: what Slurm bears, and no job beyond any circuit's limit."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.model.site import Circuit, LimitKind, Site
from slurm_power.plan.hres import (
    MOST_LEVELS,
    HresError,
    HresTree,
    Layer,
    broken_rules,
    hres_tree,
    safety_watts,
    used_all_the_time,
)


def circuit(name: str, parent: str | None, rating: float, *nodes: str, overhead: float = 1.0) -> Circuit:
    return Circuit(
        name=name,
        parent=parent,
        rating_watts=rating,
        limit_kind=LimitKind.SAFETY,
        nodes=nodes,
        overhead_ratio=overhead,
    )


def site_of(*circuits: Circuit) -> Site:
    return Site(name="s", circuits={one.name: one for one in circuits}, ess={})


def tree_of(site: Site, *, rest: float = 0.0, nodes: Sequence[str] | None = None, **more: object) -> HresTree:
    known = site.nodes() if nodes is None else nodes
    return hres_tree(site, known, resource="power", node_standing_watts=rest, **more)  # type: ignore[arg-type]  # keywords of the function itself


def shown(tree: HresTree) -> list[tuple[str, int | None]]:
    return [("".join(sorted(layer.nodes)), layer.count) for layer in tree.layers]


RACKS = (
    circuit("grid", None, 1000.0),
    circuit("left", "grid", 600.0, "a", "b"),
    circuit("right", "grid", 500.0, "c", "d"),
)


def test_a_plain_tree_is_written_as_it_is() -> None:
    tree = tree_of(site_of(*RACKS))
    assert shown(tree) == [("abcd", 1000), ("ab", 600), ("cd", 500)]
    assert [layer.circuits for layer in tree.layers] == [("grid",), ("left",), ("right",)]
    assert tree.notes == ()


def test_losses_on_the_way_are_taken_off_and_rounded_to_the_safe_side() -> None:
    right = RACKS[2]
    site = site_of(
        circuit("grid", None, 1000.0, overhead=1.15),
        circuit("left", "grid", 600.0, "a", "b", overhead=1.1),
        right,
    )
    assert shown(tree_of(site)) == [("abcd", int(1000 / (1.15 * 1.1))), ("ab", int(600 / 1.1)), ("cd", 500)]


def test_an_economic_limit_leaves_the_rating_and_a_safety_limit_counts() -> None:
    limits = {
        LimitKind.ECONOMIC: 1000.0,
        LimitKind.SAFETY: 700.0,
    }
    for kind, watts in limits.items():
        grid = Circuit(name="grid", rating_watts=1000.0, limit_watts=700.0, limit_kind=kind)
        assert safety_watts(grid) == watts
        assert tree_of(site_of(grid, *RACKS[1:])).layers[0].count == watts


def test_what_stands_is_the_base_of_its_own_layer() -> None:
    tree = tree_of(site_of(*RACKS), rest=50.4, standing_watts={"grid": 99.5})
    assert [dict(layer.base) for layer in tree.layers] == [
        {"other_load": 100},
        {"nodes_at_rest": 101},
        {"nodes_at_rest": 101},
    ]
    assert used_all_the_time(tree.layers) == [302, 101, 101]


def test_a_circuit_that_feeds_one_other_alone_shares_its_layer() -> None:
    site = site_of(
        circuit("grid", None, 1000.0),
        circuit("feeder", "grid", 800.0),
        circuit("rack", "feeder", 900.0, "a", "b"),
    )
    tree = tree_of(site, rest=10.0, standing_watts={"feeder": 100.0})
    assert shown(tree) == [("ab", 800)]
    assert dict(tree.layers[0].base) == {"nodes_at_rest": 20, "other_load": 100}
    assert tree.layers[0].circuits == ("grid", "feeder", "rack")


def test_nodes_fed_between_the_levels_have_a_layer_without_a_limit() -> None:
    site = site_of(
        circuit("grid", None, 1000.0, "x", "y"),
        circuit("feeder", "grid", 800.0),
        circuit("one", "feeder", 500.0, "a"),
        circuit("two", "feeder", 500.0, "b"),
    )
    assert shown(tree_of(site)) == [
        ("abxy", 1000),
        ("ab", 800),
        ("xy", None),
        ("a", 500),
        ("b", 500),
        ("x", None),
        ("y", None),
    ]


def test_small_branches_are_grouped_where_each_alone_could_not_be_parted() -> None:
    site = site_of(
        circuit("grid", None, 1000.0),
        circuit("feeder", "grid", 800.0),
        circuit("one", "feeder", 500.0, "a"),
        circuit("two", "feeder", 500.0, "b"),
        circuit("three", "grid", 300.0, "x"),
        circuit("four", "grid", 200.0, "y"),
    )
    assert shown(tree_of(site))[:3] == [("abxy", 1000), ("ab", 800), ("xy", None)]
    assert shown(tree_of(site))[3:] == [("a", 500), ("b", 500), ("x", 300), ("y", 200)]


def test_where_depths_cannot_be_made_equal_a_limit_is_shared_out_and_said() -> None:
    site = site_of(
        circuit("grid", None, 1000.0, "x"),
        circuit("feeder", "grid", 800.0),
        circuit("one", "feeder", 700.0, "a", "b", "c"),
        circuit("two", "feeder", 100.0, "d"),
    )
    tree = tree_of(site, standing_watts={"feeder": 80.0, "grid": 20.0})
    assert shown(tree) == [("abcdx", 1000), ("abc", 540), ("d", 100), ("x", None)]
    assert dict(tree.layers[0].base) == {"other_load": 100}
    assert len(tree.notes) == 1
    assert tree.notes[0].startswith("circuit.feeder: ")


def test_nodes_in_only_one_of_the_lists() -> None:
    tree = tree_of(site_of(*RACKS), nodes=["a", "b", "c", "z"])
    assert shown(tree) == [("abcz", 1000), ("ab", 600), ("c", 500), ("z", None)]
    assert tree.notes == (
        "circuit.right.nodes: Slurm knows no d; it is left out",
        "z: in no circuit; charged to grid alone",
    )


def test_present_limits_only_lower() -> None:
    tree = tree_of(site_of(*RACKS), limits_watts={"left": 200.0, "right": 9000.0})
    assert shown(tree) == [("abcd", 1000), ("ab", 200), ("cd", 500)]


def test_all_problems_at_once() -> None:
    with pytest.raises(HresError) as caught:
        tree_of(site_of(*RACKS), rest=350.0)
    assert [text.split(":")[0] for text in caught.value.problems] == [
        "circuit.grid",
        "circuit.left",
        "circuit.right",
    ]
    with pytest.raises(HresError, match=r"no \[circuit\.atlantis\]") as caught:
        tree_of(site_of(*RACKS), nodes=["q"], standing_watts={"atlantis": 1.0})
    assert len(caught.value.problems) == 2
    with pytest.raises(HresError, match="no nodes"):
        tree_of(site_of(*RACKS), nodes=[])


def test_live_a_limit_below_what_stands_is_that() -> None:
    tree = tree_of(site_of(*RACKS), rest=50.0, limits_watts={"left": 10.0}, clamp=True)
    assert shown(tree) == [("abcd", 1000), ("ab", 100), ("cd", 500)]


def layer(nodes: str, count: int | None = 9, **base: int) -> Layer:
    return Layer(nodes=frozenset(nodes), count=count, base=base)


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ([], "no layer"),
        ([layer("")], "without nodes"),
        ([layer("ab"), layer("ab")], "same nodes"),
        ([layer("ab"), layer("a")], "deep"),
        ([layer("abc"), layer("ab"), layer("bc")], "overlap"),
        ([layer("ab"), layer("cd")], "first layer"),
        ([layer("ab", 5, x=6)], "in use"),
        ([layer("ab", 5), layer("a", 9, x=3), layer("b", 9, x=3)], "in use"),
        ([layer("ab", -2)], "in use"),
        ([layer("ab", 2**31)], "in use"),
        ([layer("ab", 5, x=-1)], "below zero"),
        ([layer("az")], "z: no node"),
    ],
)
def test_what_slurm_would_not_bear_is_found(layers: list[Layer], word: str) -> None:
    problems = broken_rules(HresTree(resource="power", layers=tuple(layers)), "abcd")
    assert any(word in problem for problem in problems), problems


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """Trees of up to a dozen circuits and as many nodes, with losses."""
    count = draw(st.integers(1, 12))
    node = iter(range(1000))
    circuits: list[Circuit] = []
    for number in range(count):
        parent = None if number == 0 else f"k{draw(st.integers(0, number - 1))}"
        nodes = [f"n{next(node)}" for _ in range(draw(st.sampled_from((0, 0, 1, 1, 2, 3, 8))))]
        if number == count - 1 and not any(one.nodes for one in circuits):
            nodes = nodes or [f"n{next(node)}"]
        rating, overhead = draw(st.integers(1, 9000)), draw(st.sampled_from((1.0, 1.0, 1.1, 1.5)))
        circuits.append(circuit(f"k{number}", parent, float(rating), *nodes, overhead=overhead))
    return site_of(*circuits)


def most_within(tree: HresTree, nodes: frozenset[str]) -> float:
    """The most watts that these nodes can have together by all layers' counts, nothing elsewhere."""
    rooms = [math.inf if one.count is None else one.count - sum(one.base.values()) for one in tree.layers]
    for place, used in enumerate(used_all_the_time(tree.layers)):
        count = tree.layers[place].count
        rooms[place] = math.inf if count is None else count - used
    order = sorted(range(len(rooms)), key=lambda place: len(tree.layers[place].nodes))
    most: dict[frozenset[str], float] = {}
    for place in order:
        own = tree.layers[place].nodes
        below = [one for one in most if one < own]
        nearest = [one for one in below if not any(one < other for other in below)]
        inside = sum(most[one] for one in nearest) if nearest else math.inf if own & nodes else 0.0
        most[own] = min(rooms[place] if own & nodes else 0.0, inside)
    return most[tree.layers[0].nodes]


STANDING_WATTS = 300.0


@settings(max_examples=300)
@given(sites(), st.integers(0, 20), st.integers(0, 3), st.integers(0, 11))
def test_any_site_gives_a_tree_that_slurm_bears_and_that_keeps_every_limit(
    site: Site, rest: int, unlisted: int, at: int
) -> None:
    nodes = [*site.nodes(), *(f"free{number}" for number in range(unlisted))]
    stands = f"k{at % len(site.circuits)}"
    tree = tree_of(site, rest=float(rest), nodes=nodes, standing_watts={stands: STANDING_WATTS}, clamp=True)
    assert broken_rules(tree, nodes) == []
    assert tree.layers[0].nodes == frozenset(nodes)
    deepest = {node: sum(node in one.nodes for one in tree.layers) for node in nodes}
    assert len(set(deepest.values())) == 1
    assert max(deepest.values()) <= MOST_LEVELS
    used_up = {
        one.nodes
        for one, used in zip(tree.layers, used_all_the_time(tree.layers), strict=True)
        if one.count is not None and one.count == used
    }
    standing_seen = {
        name: STANDING_WATTS * factor / site.circuits[stands].overhead_ratio
        for name, factor in site.path_factors(stands)
    }
    for one in site.circuits.values():
        fed = frozenset(node for node in site.nodes() if one.name in site.circuits_of_node(node))
        if not fed:
            continue
        jobs = most_within(tree, fed)
        worst = max(dict(site.path_factors(site.circuit_of_node(node) or ""))[one.name] for node in fed)
        # Nothing of Slurm's changes what stands: with more than the limit of it, no job starts.
        if jobs > 1e-6:
            drawn = (jobs + rest * len(fed)) * worst
            # A circuit without any node of Slurm below it is in no layer, and so is what stands there.
            drawn += standing_seen.get(one.name, 0.0) if _feeds(site, stands) else 0.0
            assert drawn <= safety_watts(one) + 1e-6, (one.name, used_up)


def _feeds(site: Site, circuit: str) -> bool:
    return any(circuit in site.circuits_of_node(node) for node in site.nodes())


def test_ten_thousand_nodes() -> None:
    circuits = [circuit("grid", None, 2e8)]
    for feeder in range(10):
        circuits.append(circuit(f"f{feeder}", "grid", 3e7))
        circuits += [
            circuit(
                f"r{feeder}-{rack}", f"f{feeder}", 5e4, *(f"n{feeder}{rack:02d}{slot}" for slot in range(10))
            )
            for rack in range(100)
        ]
    tree = tree_of(site_of(*circuits), rest=800.0)
    assert len(tree.layers) == 1 + 10 + 1000
