"""job_submit.lua under a stand-in for Slurm's table: what it writes, and that it never stops a job."""

import math
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_power.forecast.job_power import LearnedLevel, name_stem
from slurm_power.slurm.admission_file import file_text
from tests.spank.stand_in import (
    CLASSES,
    FILES,
    FOLDER,
    GPU_WATTS,
    SHOW,
    STAND_IN,
    SUBMIT,
    figures,
    installed,
    lua,
    submitted,
)


@pytest.mark.parametrize("name", FILES)
def test_syntax(name: str) -> None:
    subprocess.run(["luac5.1", "-p", str(FOLDER / name)], check=True)


@pytest.mark.parametrize(
    ("job", "comment"),
    [
        (
            """{spank_job_env_size=3,
                spank_job_env={[0]="POWER_WORKLOAD=training", "OTHER=1", "POWER_FLEX=flex2"}}""",
            '{"power":{"workload":"training","flex":"flex2"}}',
        ),
        (
            """{spank_job_env_size=3, spank_job_env={[0]="POWER_MAX_HOLD=1800s",
                "POWER_FINISH_BY=@1795860000", "POWER_CAP=400"}}""",
            '{"power":{"max_hold_seconds":1800,"finish_by":1795860000,"cap_watts":400}}',
        ),
        (
            """{spank_job_env_size=3, spank_job_env={[0]="POWER_MAX_HOLD=30",
                "POWER_FINISH_BY=tomorrow", "POWER_CAP=400W"}}""",
            "nil",
        ),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_CAP=100001"}}', "nil"),
        (
            """{spank_job_env_size=4, spank_job_env={[0]="POWER_TIER=a-b.c_d/int8", "POWER_CAP=400",
                "POWER_TIERS_OK=int4,small_2", "POWER_MIN_QUALITY=-0.95"}}""",
            '{"power":{"cap_watts":400,"tier":"a-b.c_d/int8","tiers_ok":["int4","small_2"],"min_quality":-0.95}}',
        ),
        (
            """{spank_job_env_size=3, spank_job_env={[0]="POWER_TIER=1/2", "POWER_TIERS_OK=any",
                "POWER_MIN_QUALITY=108"}}""",
            '{"power":{"tier":"1/2","tiers_ok":["any"],"min_quality":108}}',
        ),
        (
            """{spank_job_env_size=2, spank_job_env={[0]="POWER_TIER=a/b", "POWER_TIERS_OK=none"}}""",
            '{"power":{"tier":"a/b"}}',
        ),
        (
            """{spank_job_env_size=3, spank_job_env={[0]="POWER_TIER=../b", "POWER_TIERS_OK=a,/b",
                "POWER_MIN_QUALITY=1."}}""",
            "nil",
        ),
        (
            """{spank_job_env_size=3, spank_job_env={[0]='POWER_TIER=a/b"', 'POWER_TIERS_OK=a",b',
                "POWER_MIN_QUALITY=0.9.5"}}""",
            "nil",
        ),
        (
            '{spank_job_env_size=1, spank_job_env={[0]="POWER_MAX_HOLD=0s"}}',
            '{"power":{"max_hold_seconds":0}}',
        ),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex0"}}', '{"power":{"flex":"flex0"}}'),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex9"}}', "nil"),
        ('{spank_job_env_size=1, spank_job_env={[0]="POWER_FLEX=flex1\\"}}"}}', "nil"),
        ('{spank_job_env_size=1, spank_job_env={[0]="XPOWER_FLEX=flex1"}}', "nil"),
        ('{spank_job_env_size=1, admin_comment="site", spank_job_env={[0]="POWER_FLEX=flex1"}}', "site"),
        ('{spank_job_env_size=1, admin_comment="", spank_job_env={[0]="POWER_FLEX=3"}}', ""),
        ("{spank_job_env_size=0, spank_job_env={}}", "nil"),
        ("{spank_job_env_size=4294967294}", "nil"),
        ("{}", "nil"),
        ("{spank_job_env_size=5}", "nil"),
        ('{spank_job_env_size="x", spank_job_env=7}', "nil"),
        ("{trap=true}", "nil"),
    ],
)
def test_admin_comment(job: str, comment: str, tmp_path: Path) -> None:
    """As it is without powerctld's file: the user's words, and no watts."""
    done = lua(STAND_IN % job + SUBMIT + SHOW, tmp_path, installed(tmp_path, None) / "job_submit.lua")
    assert done.stdout == f"nil {comment}"


@pytest.mark.parametrize(
    ("offset", "settings", "licences"),
    [
        (0, {}, "watts:1000"),
        (1, {}, None),
        (1, {"het_parts": 1}, "watts:1000"),
        (4294967294, {}, "watts:1000"),
    ],
)
def test_only_the_first_part_of_a_het_job_asks_where_slurm_refuses_more(
    offset: int, settings: dict[str, int], licences: str | None, tmp_path: Path
) -> None:
    job = f'{{user_name="alice", name="x", tres_per_node="gres:gpu:1", het_job_offset={offset}}}'
    found, power, _ = submitted(job, tmp_path, figures((), **settings))
    assert found == licences
    assert power.get("watts") == (None if licences is None else 1000)


# --- GPUs, however they are asked for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "gpus"),
    [
        ('tres_per_node="gres:gpu:h100:4"', 4),
        ('tres_per_node="gres/gpu:h100:4"', 4),
        ('tres_per_node="gres/gpu=4"', 4),
        ('tres_per_node="gpu:4"', 4),
        ('tres_per_node="gres:gpu"', 1),
        ('tres_per_node="gres:gpu:h100"', 1),
        ('tres_per_node="gres:gpu:a100:2,gres:gpu:h100:1"', 3),
        ('tres_per_node="gres/gpu=3,gres/gpu:a100=2,gres/gpu:h100=1"', 3),
        ('tres_per_node="gres:shard:2"', 1),
        ('tres_per_node="gres:mps:50"', 1),
        ('tres_per_node="gres:nic:2"', 0),
        ('tres_per_node="gres:gpu:0"', 0),
        ('tres_per_node="gres:gpu:h100:4(S:0-1)"', 4),
        ('tres_per_node="gres:gpu:2", min_nodes=3, max_nodes=3', 6),
        ('tres_per_node="gres:gpu:2", min_nodes=1, max_nodes=4', 8),
        ('tres_per_node="gres:gpu:2", min_nodes=4294967294, max_nodes=4294967294', 2),
        ('tres_per_node="gres:gpu:2", num_tasks=6, ntasks_per_node=2, min_cpus=6', 6),
        ('tres_per_node="gres:gpu:2", num_tasks=32, min_cpus=32', 8),
        ('tres_per_node="gres:gpu:2", num_tasks=4, cpus_per_task=8, min_cpus=32, partition="main"', 8),
        ('tres_per_node="gres:gpu:2", num_tasks=4, min_cpus=4, partition="other"', 8),
        ('tres_per_job="gres:gpu:8"', 8),
        ('tres_per_job="gres/gpu:h100=8", min_nodes=2, max_nodes=4', 8),
        ('tres_per_job="gres:gpu:8", tres_per_node="gres:gpu:4", min_nodes=2, max_nodes=2', 8),
        ('tres_per_task="gres:gpu:1", num_tasks=5, min_cpus=5', 5),
        ('tres_per_task="cpu:2,gres/gpu:1", num_tasks=5', 5),
        ('tres_per_task="gres:gpu:2", ntasks_per_node=2, min_nodes=2, max_nodes=2', 8),
        ('tres_per_socket="gres:gpu:1", sockets_per_node=2', 2),
        ('tres_per_socket="gres:gpu:1", sockets_per_node=65534', 2),
        ("num_tasks=5, ntasks_per_tres=2, ntasks_per_gpu=2", 3),
        ("num_tasks=5, ntasks_per_tres=65534", 0),
        ('tres_per_node="gres:gpu:1", shared=0, min_nodes=2, max_nodes=2', 16),
        ('tres_per_node="gres:gpu:1", shared=65534', 1),
        ("shared=0, min_nodes=2, max_nodes=2", 0),
        ("min_cpus=4", 0),
        ('tres_per_node=7, min_nodes="x"', 0),
        ('tres_per_node="gres:gpu:2", array_inx="0-99"', 2),
    ],
)
def test_gpus_become_watts(job: str, gpus: int, tmp_path: Path) -> None:
    licences, power, said = submitted(f"{{{job}}}", tmp_path, figures())
    assert licences == (f"watts:{gpus * GPU_WATTS}" if gpus else None)
    assert power == ({"watts": gpus * GPU_WATTS} if gpus else {})
    assert not said


def test_jobs_without_gpus(tmp_path: Path) -> None:
    text = figures(per_cpu=4.0, per_node=100.0)
    assert submitted("{min_cpus=8, num_tasks=8}", tmp_path, text)[0] == "watts:165"
    assert submitted('{tres_per_node="gres:gpu:1", min_cpus=8}', tmp_path, text)[0] == "watts:1000"


# --- what is known of such jobs ---------------------------------------------------------------------------

LEARNED = [
    LearnedLevel(kind="class", words=("training", ""), watts=500.0),
    LearnedLevel(kind="class", words=("training", "h100"), watts=555.0),
    LearnedLevel(kind="user", words=("alice", "training", ""), watts=475.0),
    LearnedLevel(kind="name", words=("alice", "training", "", "bert-7b_run#"), watts=275.0),
    LearnedLevel(kind="name", words=("alice", "inference", "", "bert-7b_run#"), watts=235.0),
]


@pytest.mark.parametrize(
    ("job", "watts"),
    [
        ('user_name="alice", name="bert-7b_run12"', 275),
        ('user_name="alice", name="BERT-7b_run13"', 275),
        ('user_name="alice", name="other"', 475),
        ('user_name="alice"', 475),
        ('user_name="alice", name="caf\\195\\169"', 475),
        ('user_name="alice2", name="bert-7b_run12"', 500),
        ('user_name="bob"', 500),
        ('user_name="bob", kind="h100"', 555),
        ('user_name="alice", kind="h100"', 555),
        ('user_name="bob", kind="a100"', 500),
        ('user_name="bob", words={"POWER_WORKLOAD=generation"}', 300),
        ('user_name="alice", name="bert-7b_run1", words={"POWER_WORKLOAD=inference"}', 235),
        ('user_name="alice", name="bert-7b_run1", words={"POWER_CAP=215"}', 215),
        ('user_name="alice", name="bert-7b_run1", words={"POWER_CAP=700"}', 275),
    ],
)
def test_the_closest_that_is_known(job: str, watts: int, tmp_path: Path) -> None:
    head = f"""(function(job)
      job.tres_per_node = "gres:gpu:" .. (job.kind and job.kind .. ":" or "") .. "2"
      if job.words then job.spank_job_env, job.spank_job_env_size = {{[0] = job.words[1]}}, 1 end
      return job end)({{{job}}})"""
    licences, *_ = submitted(head, tmp_path, figures(LEARNED))
    assert licences == f"watts:{math.ceil(2 * 1.25 * (watts - 75 + 225))}"


def test_thousands_of_entries_cost_less_than_a_millisecond(tmp_path: Path) -> None:
    """Also where the file is new to it each time; by the processor's own time."""
    many = [
        LearnedLevel(kind="name", words=(f"u{number}", "training", "", f"bert-{'x' * 20}_run#"), watts=275.0)
        for number in range(20_000)
    ]
    text = figures([*many, *LEARNED])
    assert len(text) > 900_000
    script = (
        STAND_IN % '{tres_per_node="gres:gpu:4", user_name="alice", name="bert-7b_run12", min_cpus=1}'
        + """
        local function seconds(times, before)
          local best = math.huge
          for _ = 1, times do
            before()
            values.licenses, values.admin_comment = nil, nil
            local began = os.clock()
            slurm_job_submit(job, parts, 0)
            best = math.min(best, os.clock() - began)
            assert(values.licenses == "watts:2125", values.licenses)
          end
          return best
        end
        local read, name = io.open, nil
        local fresh = 0
        local text
        local function renew()
          fresh = fresh + 1
          local file = read(PATH, "w")
          file:write((string.gsub(text, "^([^\\n]*)", "%1" .. fresh, 1)))
          file:close()
        end
        PATH = arg[1]:gsub("etc/job_submit.lua$", "expected_watts")
        local file = read(PATH); text = file:read("*a"); file:close()
        io.write(seconds(200, function() end), " ", seconds(20, renew))
        """
    )
    known, anew = map(
        float, lua(script, tmp_path, installed(tmp_path, text) / "job_submit.lua").stdout.split()
    )
    print(f"{1e3 * known:.2f} ms, {1e3 * anew:.2f} ms after a change")
    assert known < 1e-3
    assert anew < 3e-3


def test_names_are_shortened_as_powerctld_does(tmp_path: Path) -> None:
    """The same stems in Lua and in Python, or nothing that was learned of a name would ever be found."""
    source = (FOLDER / FILES[1]).read_text().replace("local function name_stem", "function name_stem")
    (tmp_path / "open.lua").write_text(source)
    names: list[str] = []

    @settings(max_examples=400, deadline=None, database=None)
    @given(
        st.text(alphabet="0123456789abcdefkm.-_xB ", max_size=30)
        | st.text(st.characters(codec="ascii"), max_size=250)
    )
    @example("bert-7b_run12")
    @example("deadbeef01-12ab-70b-1.5b_2024-01-02")
    @example("7b7b77bx 12.5m")
    def collect(name: str) -> None:
        if all(" " <= letter <= "~" for letter in name):
            names.append(name)

    collect()
    script = 'slurm = {} dofile(arg[1]) for line in io.lines("NAMES") do print(name_stem(line)) end'
    (tmp_path / "names").write_text("".join(f"{name}\n" for name in names))
    done = lua(script.replace("NAMES", str(tmp_path / "names")), tmp_path, tmp_path / "open.lua")
    assert done.stdout.split("\n")[:-1] == [name_stem(name) for name in names]


# --- licences beside the user's own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "licences"),
    [
        ("matlab:2", "matlab:2,watts:2000"),
        ("matlab:2;ansys", "matlab:2,ansys,watts:2000"),
        ("watts:100", "watts:2000"),
        ("watts", "watts:2000"),
        ("watts:1500,watts:1500", "watts:3000"),
        ("watts:5000,matlab:1", "matlab:1,watts:5000"),
        ("watts@grid:7,mywatts:3", "watts@grid:7,mywatts:3,watts:2000"),
        ("", "watts:2000"),
        ("watts:99999", "watts:99999"),  # more than there are: Slurm's to refuse, as without us
        ("matlab:1|ansys:1", "matlab:1|ansys:1"),
    ],
)
def test_users_own_licences(asked: str, licences: str, tmp_path: Path) -> None:
    job = f'{{tres_per_node="gres:gpu:2", licenses="{asked}"}}'
    found, power, _ = submitted(job, tmp_path, figures())
    assert found == licences
    assert power == {"watts": 2000}


def test_a_cap_of_their_own_lowers_it(tmp_path: Path) -> None:
    job = '{tres_per_node="gres:gpu:2", licenses="watts:1", spank_job_env_size=1, %s}'
    job %= 'spank_job_env={[0]="POWER_CAP=400"}'
    licences, power, _ = submitted(job, tmp_path, figures())
    assert licences == "watts:1375"
    assert power == {"cap_watts": 400, "watts": 1375}


def test_more_than_the_rating_is_taken_for_all_of_it(tmp_path: Path) -> None:
    licences, power, said = submitted('{tres_per_job="gres:gpu:64", name="all"}', tmp_path, figures())
    assert licences == "watts:52000"
    assert power == {"watts": 52000}
    assert "64000 W expected, which is more than all licences: it gets 52000" in said


def test_hierarchical_resource_per_node(tmp_path: Path) -> None:
    job = '{tres_per_node="gres:gpu:4", min_nodes=2, max_nodes=2}'
    assert submitted(job, tmp_path, figures(hres="power"))[0] == "watts:8000,power:3200"
    assert submitted(job, tmp_path, figures(hres="power", hres_most=3000))[0] == "watts:8000,power:3000"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "something else\n",
        "slurm-power-expected-watts 2 x\nlicence\twatts\ntotal\t9\n\n",
        "slurm-power-expected-watts 1 x\nlicence\twatts\ntotal\t9",
        "slurm-power-expected-watts 1 x\nos.exit(1)\n\n\0\n",
        "\0" * 1000,
        file_text({}, {}, ()),
        file_text({"total": 52000}, CLASSES, ()),
        file_text({"licence": "watts"}, CLASSES, ()),
        file_text({"licence": "watts", "total": 0}, CLASSES, ()),
        file_text({"licence": "watts", "total": "many"}, CLASSES, ()),
    ],
)
def test_no_watts_without_a_whole_file(text: str | None, tmp_path: Path) -> None:
    """Slurm refuses a licence that it does not have: without powerctld's word none is asked for."""
    job = '{tres_per_node="gres:gpu:2", licenses="matlab:1", spank_job_env_size=1, %s}'
    job %= 'spank_job_env={[0]="POWER_FLEX=flex1"}'
    licences, power, _ = submitted(job, tmp_path, text)
    assert licences == "matlab:1"
    assert power["flex"] == "flex1"


def test_a_file_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "expected_watts").mkdir()
    assert submitted('{tres_per_node="gres:gpu:2"}', tmp_path, None)[0] is None


def test_a_new_file_is_seen_at_once(tmp_path: Path) -> None:
    folder = installed(tmp_path, figures())
    (tmp_path / "other").write_text(figures(factor=2.5))
    script = STAND_IN % '{tres_per_node="gres:gpu:2"}' + SUBMIT
    script += (
        f'os.rename("{tmp_path}/other", "{tmp_path}/expected_watts") values.licenses = nil\n' + SUBMIT + SHOW
    )
    assert lua(script, tmp_path, folder / "job_submit.lua").stdout.startswith("watts:4000 ")
