"""What status and plan say of licences and windows."""

from typing import Any

from slurm_power.cli.commands.site.admission_words import admission_lines

ROW: dict[str, Any] = {
    "licence": "watts",
    "circuit": "grid",
    "total_watts": 52_000,
    "used_watts": 7_832,
    "other_watts": 8_100.0,
    "laid": True,
    "problem": "",
    "windows": [
        {
            "starts_in_seconds": 0.0,
            "ends_in_seconds": 540.0,
            "watts": 28_600,
            "reason": "grid limited to 32.0 kW",
            "renewed": True,
        },
        {
            "starts_in_seconds": 90.0,
            "ends_in_seconds": 690.0,
            "watts": 9_000,
            "reason": "why",
            "renewed": False,
        },
    ],
}


def test_licences_and_windows() -> None:
    assert admission_lines(ROW) == [
        "licences watts: running jobs have 7.8 kW of 52.0 kW; 8.1 kW of grid are drawn without",
        "28.6 kW are kept from new jobs for 9 min or longer: grid limited to 32.0 kW",
        "9.0 kW will be kept from new jobs in 90 s for 10 min: why",
    ]


def test_off_says_nothing() -> None:
    assert admission_lines(None) == []


def test_only_watching_and_what_is_wrong() -> None:
    lines = admission_lines({**ROW, "laid": False, "total_watts": None, "problem": "no licence"})
    assert lines[0].startswith("28.6 kW would be kept from new jobs")
    assert lines[-1] == "admission: no licence"
