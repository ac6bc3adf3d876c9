from pathlib import Path

import pytest

from slurm_power.config import ConfigError, load_node


def test_one_file_serves_all_nodes(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'socket = "/run/powerd.%n.sock"\nstate_directory = "/var/lib/%n"\ncontroller = "ctl:6820"\n'
    )
    config = load_node(file, node="c7")
    assert config.node == "c7"
    assert config.socket == Path("/run/powerd.c7.sock")
    assert config.state_directory == Path("/var/lib/c7")


def test_problems_come_at_once(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('controller = "ctl"\nsample_seconds = 0\nlog_level = "LOUD"\n')
    with pytest.raises(ConfigError) as caught:
        load_node(file, node="c1")
    assert {problem.split(":")[0] for problem in caught.value.problems} == {
        "controller",
        "sample_seconds",
        "log_level",
    }


def test_unknown_key_is_named(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('sockett = "/x"\n')
    with pytest.raises(ConfigError, match="did you mean socket"):
        load_node(file, node="c1")


@pytest.mark.parametrize("name", ['a b"', "a/b", "x" * 65, "..", "-c1", "\N{SNOWMAN}", "c1\n"])
def test_a_name_that_no_certificate_or_path_can_have_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text("sample_seconds = 0\n")
    with pytest.raises(ConfigError) as caught:
        load_node(file, node=name)
    assert {problem.split(":")[0] for problem in caught.value.problems} == {"node", "sample_seconds"}


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text("node = 5\n")
    with pytest.raises(ConfigError, match="node: 5 is no node's name"):
        load_node(file)
    file.write_text('node = "gpu-7.cluster"\n')
    assert load_node(file).node == "gpu-7.cluster"
