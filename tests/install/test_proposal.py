"""What is proposed to sites that differ: hooks of their own, includes, racks, no compiler."""

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_power.config import load_node, load_site
from slurm_power.slurm.compose import chain
from slurm_power.slurm.conf_text import with_settings
from slurm_power.slurm.finding import Severity
from slurm_power.slurm.found import Found
from slurm_power.slurm.installation import install, remove
from slurm_power.slurm.proposal import Proposal, ProposedFile, propose
from slurm_power.slurm.racks import racks_of
from slurm_power.slurm.review_folder import ReviewError, read_folder, write_folder
from tests.install.recorded_slurm import PLACES, SHIP, VERSIONS, installed, recorded, with_file, with_setting

each_version = pytest.mark.parametrize("version", VERSIONS)
CONF = "/run/lab/etc/slurm.conf"


def proposed(found: Found, plugin: bytes | None = b"x") -> Proposal:
    return propose(found, PLACES, SHIP, plugin)


def text(proposal: Proposal, path: str) -> str:
    return next(file.content.decode() for file in proposal.files if file.path == path)


@each_version
def test_the_same_slurm_gets_the_same_proposal_and_one_in_place_gets_none(version: str) -> None:
    assert proposed(recorded(version)) == proposed(recorded(version))
    again = proposed(installed(version), b"the plugin")
    assert not again.restart_slurmctld
    changed = [
        file.path
        for file in again.files
        if not file.first_only and file.before != file.content.decode(errors="surrogateescape")
    ]
    assert changed == []


@each_version
def test_drafts_load(version: str, tmp_path: Path) -> None:
    racks = {"rack1": ("c1", "c2"), "rack2": ("c3", "c4")}
    for found in (recorded(version), replace(recorded(version), racks=racks)):
        proposal = proposed(with_setting(found, "PrologEpilogTimeout", "30 sec"))
        for name in ("site.toml", "node.toml"):
            (tmp_path / name).write_text(text(proposal, f"{PLACES.config_directory}/{name}"))
        site = load_site(tmp_path / "site.toml")
        assert sorted(site.site.nodes()) == ["c1", "c2", "c3", "c4"]
        assert not site.policy.control
        assert set(site.site.circuits) == {"grid", *found.racks}
        assert load_node(tmp_path / "node.toml", "c1").prolog_timeout_seconds == 30.0


@each_version
def test_a_setting_in_an_included_file_is_changed_there(version: str) -> None:
    found = with_file(recorded(version), CONF, text="Include hooks.conf\n")
    found = with_file(found, "/run/lab/etc/hooks.conf", text="Prolog=/site/prolog\n")
    found = replace(found, hook_files={**found.hook_files, "Prolog": ("/site/prolog",)})
    found = with_file(with_setting(found, "Prolog", "/site/prolog"), "/site/prolog", text="#!/bin/sh\n")
    proposal = proposed(found)
    assert "Prolog=/run/lab/etc/slurm-power/prolog_chain" in text(proposal, "/run/lab/etc/hooks.conf")
    assert "Prolog=" not in text(proposal, CONF)
    assert "Epilog=/run/lab/etc/slurm-power/epilog\n" in text(proposal, CONF)


@each_version
def test_a_line_that_cannot_be_changed_is_an_error_and_stays(version: str) -> None:
    found = with_file(recorded(version), CONF, text="ClusterName=lab Prolog=/site/prolog\n")
    found = replace(
        with_setting(found, "Prolog", "/site/prolog"),
        hook_files={**found.hook_files, "Prolog": ("/site/prolog",)},
    )
    proposal = proposed(with_file(found, "/site/prolog", text="#!/bin/sh\n"))
    errors = [one.line() for one in proposal.findings if one.severity is Severity.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {CONF}: line 1: Prolog shares its line with other settings")
    assert CONF not in [file.path for file in proposal.files]


@each_version
def test_units_may_write_where_the_site_wants_it(version: str) -> None:
    unit = text(proposed(recorded(version)), f"{PLACES.unit_directory}/powerctld.service")
    assert "ExecStart=/opt/slurm-power/bin/powerctld --config /etc/slurm-power/site.toml\n" in unit
    assert "ReadWritePaths" not in unit
    assert "User=root\n" in unit  # the recorded Slurm has no slurmdbd, and SlurmUser=root
    moved = propose(recorded(version), replace(PLACES, state_directory="/srv/power"), SHIP, None)
    assert "\nReadWritePaths=/srv/power\n" in text(moved, f"{PLACES.unit_directory}/powerctld.service")
    with_database = with_setting(recorded(version), "AccountingStorageType", "accounting_storage/slurmdbd")
    unit = text(proposed(with_database), f"{PLACES.unit_directory}/powerctld.service")
    assert "User=slurmpower\n" in unit


@each_version
@pytest.mark.parametrize("daemon", ["powerweb", "powerbridge"])
def test_the_daemons_beside_it_run_as_the_controllers_user(version: str, daemon: str) -> None:
    """powerctld's socket takes them for operators only then."""
    proposal = proposed(recorded(version))
    units = [text(proposal, f"{PLACES.unit_directory}/{name}.service") for name in ("powerctld", daemon)]
    users = [[line for line in unit.splitlines() if line.startswith("User=")] for unit in units]
    assert users[0] == users[1]
    assert f"ExecStart=/opt/slurm-power/bin/{daemon} --config /etc/slurm-power/site.toml\n" in units[1]


@each_version
def test_without_a_compiler_the_rest_is_proposed_and_the_way_to_the_plugin_told(version: str) -> None:
    proposal = proposed(recorded(version), None)
    assert not [file for file in proposal.files if file.path.endswith(".so")]
    assert any("make -C spank" in one.fix for one in proposal.findings)


@each_version
def test_flags_and_plugins_of_the_site_are_kept(version: str) -> None:
    found = with_setting(recorded(version), "PrologFlags", "Serial")
    found = with_setting(found, "JobSubmitPlugins", "require_timelimit")
    conf = text(proposed(found), CONF)
    assert "PrologFlags=Serial,Alloc\n" in conf
    assert "JobSubmitPlugins=require_timelimit,lua\n" in conf
    assert "PrologFlags" not in text(proposed(with_setting(found, "PrologFlags", "Contain")), CONF)


def hook(path: Path, status: int) -> str:
    path.write_text(f'#!/bin/sh\necho "{path.name} $1"\nexit {status}\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("setting", "own_status", "said", "status"),
    [
        ("Prolog", 0, ["10-a x", "20-b x", "ours"], 0),
        ("Prolog", 3, ["10-a x", "20-b x"], 3),
        ("Epilog", 3, ["10-a x", "20-b x", "ours"], 3),
    ],
)
def test_a_chain_ends_as_the_sites_own_hook_ends(
    tmp_path: Path, setting: str, own_status: int, said: list[str], status: int
) -> None:
    own = tmp_path / "with space.d"
    own.mkdir()
    hook(own / "10-a", 0)
    hook(own / "20-b", own_status)
    ours = tmp_path / "ours"
    ours.write_text("#!/bin/sh\necho ours\nexit 1\n")
    ours.chmod(0o755)
    script = tmp_path / "chain"
    script.write_text(chain(setting, [f"{own}/*"], str(ours)))
    done = subprocess.run(["sh", str(script), "x"], capture_output=True, text=True, check=False, timeout=10)
    assert (done.stdout.splitlines(), done.returncode) == (said, status)
    ours.unlink()
    done = subprocess.run(["sh", str(script), "x"], capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, done.stderr) == (status, "")
    # Slurm fails where a hook that it was told of is missing, so the chain does as well.
    script.write_text(chain(setting, ["/nowhere/own"], str(ours)))
    assert subprocess.run(["sh", str(script)], capture_output=True, check=False, timeout=10).returncode == 127


def test_racks_are_seen_in_features_topology_or_names() -> None:
    nodes = recorded(VERSIONS[0]).nodes
    featured = [replace(node, features=("h100", f"rack{1 + index // 2}")) for index, node in enumerate(nodes)]
    assert racks_of(featured, {}) == {"rack1": ("c1", "c2"), "rack2": ("c3", "c4")}
    assert racks_of(nodes, {"s1": ("c1", "c2"), "s2": ("c3", "c4")}) == {
        "s1": ("c1", "c2"),
        "s2": ("c3", "c4"),
    }
    named = [replace(node, name=f"r{1 + index // 2:02}n{index}") for index, node in enumerate(nodes)]
    assert racks_of(named, {}) == {"r01": ("r01n0", "r01n1"), "r02": ("r02n2", "r02n3")}
    assert racks_of(nodes, {}) == {}
    # One rack for all, or a node without one, says nothing about circuits.
    assert racks_of(featured[:2], {}) == {}
    assert racks_of([*featured, replace(nodes[0], name="login")], {}) == {}


def files(root: Path, **contents: str) -> list[ProposedFile]:
    return [
        ProposedFile(path=f"{root}/{name}", content=content.encode(), mode=0o644, roles=("node",), why="")
        for name, content in contents.items()
    ]


def test_edits_are_kept_and_never_overwritten(tmp_path: Path) -> None:
    folder, target = tmp_path / "review", tmp_path / "target"
    write_folder(folder, files(target, a="1", b="1", c="1"), {}, record_directory=str(target))
    for name in ("a", "b"):
        (folder / f"root{target}/{name}").write_text("mine")
    # The same proposal again: nothing to overwrite.
    kept = write_folder(folder, files(target, a="1", b="1", c="1"), {}, record_directory=str(target))
    assert kept == [f"root{target}/a", f"root{target}/b"]
    with pytest.raises(ReviewError) as refused:
        write_folder(folder, files(target, a="2", b="2", c="2"), {}, record_directory=str(target))
    assert [problem.partition(":")[0][-1] for problem in refused.value.problems] == ["a", "b"]
    assert (folder / f"root{target}/c").read_text() == "1"
    assert [file.content for file in read_folder(folder)[0]] == [b"mine", b"mine", b"1"]


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ReviewError, match="choose another --dir"):
        write_folder(tmp_path, files(tmp_path, a="1"), {}, record_directory=str(tmp_path))
    with pytest.raises(ReviewError, match="choose another --dir"):
        read_folder(tmp_path)


def test_what_has_changed_since_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    folder, target = tmp_path / "review", tmp_path / "target"
    target.mkdir()
    (target / "a").write_text("old")
    wanted = [
        replace(one, before="old" if one.path.endswith("/a") else None)
        for one in files(target, a="1", b="1", c="1")
    ]
    write_folder(folder, wanted, {}, record_directory=str(target))
    (target / "a").write_text("somebody was here")
    (target / "b").write_text("and here")
    with pytest.raises(ReviewError) as refused:
        install(read_folder(folder)[0], target)
    assert len(refused.value.problems) == 2
    assert all("run init again" in problem for problem in refused.value.problems)
    assert sorted(file.name for file in target.iterdir()) == ["a", "b"]


def test_uninstall_takes_out_blocks_and_keeps_what_was_added_beside_them(tmp_path: Path) -> None:
    folder, target = tmp_path / "review", tmp_path / "etc"
    target.mkdir()
    conf = target / "slurm.conf"
    conf.write_bytes(b"ClusterName=\xff\nProlog=/mine")
    conf.chmod(0o640)
    before = conf.read_bytes().decode(errors="surrogateescape")
    after = with_settings(before, [("Prolog", "/ours", "why")])
    entry = ProposedFile(
        path=str(conf),
        content=after.encode(errors="surrogateescape"),
        mode=0o640,
        roles=("node",),
        why="",
        before=before,
    )
    write_folder(
        folder, [entry, *files(target / "new", hook="x")], {}, record_directory=str(tmp_path / "power")
    )
    install(read_folder(folder)[0], tmp_path / "power")
    assert b"/ours" in conf.read_bytes()
    conf.write_bytes(b"# added later\n" + conf.read_bytes())
    assert remove(tmp_path / "power", [], in_use={f"{target}/new/hook"}).later == [f"{target}/new/hook"]
    outcome = remove(tmp_path / "power", [])
    assert not outcome.problems
    assert conf.read_bytes() == b"# added later\nClusterName=\xff\nProlog=/mine"
    assert conf.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etc", "review"]


def test_slurm_power_conf_is_what_the_drafts_say() -> None:
    proposal = proposed(recorded(VERSIONS[0]))
    conf = dict(line.split("=", 1) for line in text(proposal, "/run/lab/etc/slurm-power.conf").splitlines())
    node = tomllib.loads(text(proposal, f"{PLACES.config_directory}/node.toml"))
    site = tomllib.loads(text(proposal, f"{PLACES.config_directory}/site.toml"))
    assert conf["node_socket"] == node["socket"]
    assert conf["controller"] == node["controller"]
    assert conf["controller_socket"] == site["controller"]["socket"]
