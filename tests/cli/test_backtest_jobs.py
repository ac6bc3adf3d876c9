"""``slurm-power backtest-jobs`` as a user meets it."""

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main
from tests.forecast.test_jobs_ahead import log

HEADING = "submit,start,end,reqt,gpus,kw_per_gpu,user"


def backtest_jobs(*words: str) -> Result:
    return CliRunner().invoke(main, ["backtest-jobs", *words])


def written(path: Path, rows: list[str], heading: str = HEADING) -> Path:
    text = "\n".join([heading, *rows]) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def good_rows() -> list[str]:
    return [
        f"{job.submit_seconds},{job.start_seconds},{job.end_seconds},{job.kind.limit_seconds},"
        f"{job.kind.gpus},{job.watts / job.kind.gpus / 1000.0},{job.kind.user}"
        for job in log()
    ]


def test_figures_as_text_and_as_json(tmp_path: Path) -> None:
    path = str(written(tmp_path / "jobs.csv.gz", good_rows()))
    done = backtest_jobs(path, "--origins", "40")
    assert done.exit_code == 0, done.output
    assert "planned starts known" in done.output
    found = json.loads(backtest_jobs(path, "--origins", "40", "--gpus", "64", "--json").stdout)
    assert found["jobs"] == 300
    assert found["true_ends"] < found["planned"] < found["nothing_planned"]


def test_power_at_submission_is_learned_by_name_and_class(tmp_path: Path) -> None:
    rows = []
    for number, plain in enumerate(good_rows()):
        workload = "training" if number % 2 else "inference"
        words = plain.split(",")
        words[5] = str({0: 0.2, 1: 0.6, 2: 0.35, 3: 0.5}[number % 4])
        rows.append(",".join([*words, f"code{'ab'[number % 4 // 2]}-{number}", workload]))
    path = written(tmp_path / "jobs.csv", rows, heading=f"{HEADING},name,workload")
    done = backtest_jobs(str(path), "--origins", "5", "--json")
    assert done.exit_code == 0, done.output
    late = [row for row in json.loads(done.stdout)["power_at_submission"] if row["from_jobs"] == 20]
    assert {row["workload"] for row in late} == {"training", "inference"}
    assert all(row["ratio"] < 0.2 for row in late)
    assert "training, users with 20 or more jobs before" in backtest_jobs(str(path), "--origins", "5").output


@pytest.mark.parametrize(
    ("rows", "words", "told"),
    [
        (["0,1,2,60,8,0.5"], [], "row 2: user is empty"),
        (["0,5,2,60,8,0.5,alice"], [], "row 2: submit, start and end are not in this order"),
        (["0,1,2,60,0,0.5,alice"], [], "row 2: gpus '0' has to be more than 0"),
        (["0,1,2,60,8,-1,alice"], [], "row 2: kw_per_gpu '-1' has to be 0 or more"),
        (["0,1,nan,60,8,1,alice"], [], "row 2: end 'nan' has to be"),
        (["0,1,2,60,8,many,alice"], [], "row 2: kw_per_gpu 'many' is no number"),
        ([], [], "it has no jobs"),
        (["0,1,2,60,8,0.5,alice"], [], "the log is too short"),
        (["0,1,2,60,8,0.5,alice"], ["--horizon", "10s"], "--horizon: has to be 1m to 24h"),
        (["0,1,2,60,8,0.5,alice"], ["--gpus", "nan"], "--gpus: nan is not between"),
    ],
)
def test_what_cannot_be_is_refused_with_the_row(
    tmp_path: Path, rows: list[str], words: list[str], told: str
) -> None:
    done = backtest_jobs(str(written(tmp_path / "jobs.csv", rows)), *words)
    assert done.exit_code == 2
    assert told in done.output
    assert "Traceback" not in done.output


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "jobs.csv", ["0,5,2,60,8,0.5,alice", "0,1,2,60,8,x,bob"])
    done = backtest_jobs(str(path), "--horizon", "10s")
    assert done.exit_code == 2
    assert [line.split(": ", 1)[0] for line in done.output.splitlines()].count(str(path)) == 2
    assert "--horizon" in done.output


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    done = backtest_jobs(str(written(tmp_path / "jobs.csv", ["1,2"], heading="submit,start")))
    assert "row 1 lacks end, reqt, gpus, kw_per_gpu, user" in done.output
    assert "No such file" in backtest_jobs(str(tmp_path / "none.csv")).output
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    assert backtest_jobs(str(tmp_path / "broken.csv.gz")).exit_code == 2
