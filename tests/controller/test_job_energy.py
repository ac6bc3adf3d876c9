"""Energy figures of a job over its nodes."""

from slurm_power.controller.jobs.job_energy import JobEnergies


def test_nodes_add_up_and_an_unknown_part_makes_the_sum_unknown() -> None:
    energies = JobEnergies()
    energies.take("17", "c1", {"estimated_joules": 5.0, "host_joules": 100.0, "coverage_ratio": 1.0})
    energies.take("17", "c2", {"estimated_joules": 7.0, "host_joules": None, "coverage_ratio": 0.9})
    found = energies.of("17")
    assert (found["estimated_joules"], found["host_joules"]) == (12.0, None)
    assert found["energy_coverage_ratio"] == 0.9


def test_a_node_s_later_word_replaces_its_earlier_one_and_nonsense_is_unknown() -> None:
    energies = JobEnergies()
    energies.take("17", "c1", {"shared_joules": 5.0})
    energies.take("17", "c1", {"shared_joules": 8.0})
    assert energies.of("17")["shared_joules"] == 8.0
    energies.take("17", "c1", {"shared_joules": float("nan")})
    assert energies.of("17")["shared_joules"] is None


def test_jobs_that_are_over_are_forgotten() -> None:
    energies = JobEnergies()
    energies.take("17", "c1", {"shared_joules": 5.0})
    energies.keep({"18"})
    assert energies.of("17")["shared_joules"] is None
