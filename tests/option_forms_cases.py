"""What users may write behind each option of ours, and the normal form that travels; shared by every parser.

A case is (option, text, normal form), with None where the text is refused. All hold at ``NOW`` in
``TIME_ZONE``, on the day before its clocks go forward. Each normal form is a user form of itself.
"""

NOW = 1_774_695_600  # 2026-03-28 12:00:00 there, 11:00 UTC
TIME_ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
_DAY = 86_400

Case = tuple[str, str, str | None]


def _at(seconds: int) -> str:
    return f"@{NOW + seconds}"


_WORKLOAD: list[Case] = [
    *[("workload", word, word) for word in ("training", "inference", "generation")],
    *[("workload", text, None) for text in ("", "Training", "train", "training ", "0", "training,inference")],
]
_FLEX: list[Case] = [
    *[("flex", f"flex{level}", f"flex{level}") for level in range(4)],
    *[("flex", str(level), f"flex{level}") for level in range(4)],
    *[
        ("flex", text, None)
        for text in ("", "4", "flex4", "flex", "FLEX1", "flex 1", "flex1x", "00", "-1", "1.0")
    ],
]
_MAX_HOLD: list[Case] = [
    ("max-hold", "0", "0s"),
    ("max-hold", "30", "1800s"),
    ("max-hold", "007", "420s"),
    ("max-hold", "10:30", "630s"),
    ("max-hold", "1:5", "65s"),
    ("max-hold", "10:99", "699s"),  # Slurm takes more than 59 as well
    ("max-hold", "01:30:00", "5400s"),
    ("max-hold", "1:2:3", "3723s"),
    ("max-hold", "90:00:00", "324000s"),
    ("max-hold", "1-0", "86400s"),
    ("max-hold", "1-12", "129600s"),
    ("max-hold", "1-30", "194400s"),
    ("max-hold", "2-01:30", "178200s"),
    ("max-hold", "0-00:00:10", "10s"),
    ("max-hold", "1-01:01:01", "90061s"),
    ("max-hold", "90s", "90s"),
    ("max-hold", "15m", "900s"),
    ("max-hold", "2h", "7200s"),
    ("max-hold", "1d", "86400s"),
    ("max-hold", "0s", "0s"),
    ("max-hold", "1800s", "1800s"),
    ("max-hold", "2H", "7200s"),
    ("max-hold", "30d", "2592000s"),
    ("max-hold", "30-0", "2592000s"),
    ("max-hold", "43200", "2592000s"),
    *[
        ("max-hold", text, None)
        for text in (
            *("", " ", "s", "-", ":", "-1", "+1", "1.5", "1.5h", "2 h", "2hours", "1w", "30 ", " 30", "3O"),
            *(
                "1:",
                ":1",
                "1::2",
                "1:2:3:4",
                "1-",
                "-1:0",
                "1-2-3",
                "1-2:3:4:5",
                "1-:30",
                "1:2s",
                "1-2h",
                "0x10",
            ),
            *(
                "31d",
                "30d1s",
                "2592001s",
                "43201",
                "30-0:1",
                "721h",
                "infinite",
                "UNLIMITED",
                "never",
                "1e3",
                "٣",
            ),
            *(
                "99999999999999999999",
                "99999999999999999999s",
                "18446744073709551616",
                "1-99999999999999999999",
            ),
        )
    ],
]
_FINISH_BY: list[Case] = [
    ("finish-by", _at(1), _at(1)),
    ("finish-by", f"@0{NOW + 60}", _at(60)),
    ("finish-by", _at(366 * _DAY), _at(366 * _DAY)),
    ("finish-by", "2026-03-29", _at(12 * 3600)),
    ("finish-by", "2026-03-30", _at(35 * 3600)),  # the night of the 29th has an hour less
    ("finish-by", "2026-03-28T12:01", _at(60)),
    ("finish-by", "2026-03-28T12:00:01", _at(1)),
    ("finish-by", "2026-03-29T12:00", _at(23 * 3600)),
    ("finish-by", "2026-12-31T23:59:59", f"@{1_798_757_999}"),
    ("finish-by", "2026-03-29T1:30", _at(13 * 3600 + 1800)),
    ("finish-by", "2026-4-1", _at(83 * 3600)),
    ("finish-by", "12:00:01", _at(1)),
    ("finish-by", "12:01", _at(60)),
    ("finish-by", "18:30", _at(6 * 3600 + 1800)),
    ("finish-by", "23:59:59", _at(12 * 3600 - 1)),
    ("finish-by", "12:00", _at(23 * 3600)),  # the next such: that is tomorrow
    ("finish-by", "11:59", _at(23 * 3600 - 60)),
    ("finish-by", "0:00", _at(12 * 3600)),
    ("finish-by", "7:5", _at(18 * 3600 + 300)),
    ("finish-by", "now+1", _at(1)),
    ("finish-by", "now+60", _at(60)),
    ("finish-by", "now+90minutes", _at(5400)),
    ("finish-by", "now+2hours", _at(7200)),
    ("finish-by", "now+3days", _at(3 * _DAY)),
    ("finish-by", "now+366days", _at(366 * _DAY)),
    *[("finish-by", f"now+1{unit}", _at(seconds)) for unit, seconds in (("minute", 60), ("hour", 3600))],
    *[("finish-by", f"now+1{unit}", _at(seconds)) for unit, seconds in (("second", 1), ("seconds", 1))],
    *[("finish-by", f"now+1{unit}", _at(seconds)) for unit, seconds in (("day", _DAY), ("week", 7 * _DAY))],
    ("finish-by", "now+2weeks", _at(14 * _DAY)),
    *[
        ("finish-by", text, None)
        for text in (
            *(
                "",
                "@",
                "@-1",
                "@1.5",
                "@abc",
                "@ 1",
                f"@{NOW}",
                f"@{NOW - 1}",
                "@0",
                f"@{NOW + 366 * _DAY + 1}",
            ),
            *(
                "@99999999999999999999",
                "now",
                "now+",
                "now+0",
                "now-1",
                "now+1x",
                "now+1.5hours",
                "now+ 1",
                "now +1",
            ),
            *(
                "now+1min",
                "now+1h",
                "now+hours",
                "now+367days",
                "now+99999999999999999999",
                "now+99999999999999weeks",
            ),
            *(
                "tomorrow",
                "noon",
                "2026-03-28",
                "2026-03-28T12:00",
                "2026-03-28T12:00:00",
                "2025-12-31",
                "2027-03-30",
            ),
            *(
                "2026-3",
                "2026-03-290",
                "26-03-29",
                "2026-02-30",
                "2026-13-01",
                "2026-00-10",
                "2026-04-00",
                "2026-04-31",
            ),
            *(
                "2026-03-29T",
                "2026-03-29T24:00",
                "2026-03-29T12:60",
                "2026-03-29T12:00:60",
                "2026-03-29T12",
                "2026-03-29 12:00",
            ),
            *(
                "T12:00",
                "2026-03-29T12:00:00:00",
                "2026-03-29T12:00:00Z",
                "2026-03-29T12:00+01:00",
                "2027-02-29",
            ),
            *(
                "24:00",
                "12:60",
                "12:00:60",
                "12",
                "12:",
                ":30",
                "12:00:",
                "1:2:3:4",
                "1830",
                "12:00 PM",
                "-1:00",
            ),
        )
    ],
]
_POWER_CAP: list[Case] = [
    ("power-cap", "400", "400"),
    ("power-cap", "400W", "400"),
    ("power-cap", "0400", "400"),
    ("power-cap", "0.4kW", "400"),
    ("power-cap", "0.450kW", "450"),
    ("power-cap", "1.25kW", "1250"),
    ("power-cap", "1kW", "1000"),
    ("power-cap", "0.001kW", "1"),
    ("power-cap", "1", "1"),
    ("power-cap", "400w", "400"),
    ("power-cap", "0.4KW", "400"),
    ("power-cap", "400.0", "400"),
    ("power-cap", "400.4W", "400"),
    ("power-cap", "0.4007kW", "401"),
    ("power-cap", "100000", "100000"),
    ("power-cap", "100kW", "100000"),
    *[
        ("power-cap", text, None)
        for text in (
            *("", "0", "0W", "0kW", "0.0kW", "-400", "+400", "0.4", "0.4W", ".4kW", "0.kW", "400."),
            *("W", "kW", "400 W", " 400", "400 ", "400kw", "0.4 kW", "400mW", "400MW", "0.4MW", "4e2"),
            *(
                "100001",
                "100.0006kW",
                "101kW",
                "99999999999999999999",
                "99999999999999999999kW",
                "0x190",
                "400,5",
                "0,4kW",
            ),
            *("400WW", "1.2.3kW", "400-500", "50%", "max", "400\n", "٤٠٠"),
        )
    ],
]
_LONG = "a" * 32
_MOST_NAMES = ",".join([_LONG, "b" * 32, "c" * 32, "d" * 32, "e" * 28])  # 160 characters
_TIER: list[Case] = [
    *[
        ("tier", text, text)
        for text in (
            *("digits/full", "d/f", "0/1", "chat-7b/int8", "a.b_c-d/e.f_g-h", "any/none", f"{_LONG}/{_LONG}"),
        )
    ],
    *[
        ("tier", text, None)
        for text in (
            *("", "/", "digits", "digits/", "/full", "digits//full", "digits/full/x", "Digits/full"),
            *(
                "digits/Full",
                "digits/int 8",
                " digits/full",
                "digits/full ",
                "digits/full\n",
                "digits/f\u00fc",
            ),
            *(
                "-d/full",
                "d/-full",
                ".d/full",
                "d/.",
                "_d/full",
                "d/_",
                "../full",
                "digits/..",
                "digits\\full",
            ),
            *(f"{_LONG}a/full", f"digits/{_LONG}a", "digits/full,int8", "digits:full", "digits/*", "d/f=1"),
            *("\u0664/full", "d" * 81),
        )
    ],
]
_TIERS_OK: list[Case] = [
    ("tiers-ok", "int8", "int8"),
    ("tiers-ok", "any", "any"),
    ("tiers-ok", "none", "none"),
    ("tiers-ok", "small,int8", "int8,small"),
    ("tiers-ok", "b,a,b,a", "a,b"),
    ("tiers-ok", "a-b,a.b,a_b,a0,ab,a", "a,a-b,a.b,a0,a_b,ab"),  # in the order of their bytes
    ("tiers-ok", "any,any", "any"),
    ("tiers-ok", "h,g,f,e,d,c,b,a", "a,b,c,d,e,f,g,h"),
    ("tiers-ok", ",".join(["a"] * 80), "a"),
    ("tiers-ok", _MOST_NAMES, _MOST_NAMES),
    ("tiers-ok", _MOST_NAMES + "e", None),
    *[
        ("tiers-ok", text, None)
        for text in (
            *("", ",", "a,", ",a", "a,,b", "a, b", " a", "a ", "A", "digits/int8", "any,int8", "none,int8"),
            *("any,none", "ANY", "*", "a;b", "a b", "-a", "a,-b", ".a", f"{_LONG}a", "a\n", "\u00e9"),
            *("i,h,g,f,e,d,c,b,a", ",".join(["a"] * 81)),
        )
    ],
]
_MIN_QUALITY: list[Case] = [
    ("min-quality", "0.95", "0.95"),
    ("min-quality", "0.950", "0.95"),
    ("min-quality", "00.95", "0.95"),
    ("min-quality", "1", "1"),
    ("min-quality", "1.0", "1"),
    ("min-quality", "100", "100"),
    ("min-quality", "0", "0"),
    ("min-quality", "000", "0"),
    ("min-quality", "0.000", "0"),
    ("min-quality", "-0.0", "0"),
    ("min-quality", "-0", "0"),
    ("min-quality", "-1.5", "-1.5"),
    ("min-quality", "-012.340", "-12.34"),
    ("min-quality", "108.6", "108.6"),
    ("min-quality", "999999999.999999", "999999999.999999"),
    ("min-quality", "000123456789", "123456789"),
    ("min-quality", "0.000001", "0.000001"),
    ("min-quality", "0.123456000000", "0.123456"),
    *[
        ("min-quality", text, None)
        for text in (
            *("", "-", ".", "-.", ".5", "5.", "+1", "--1", "1-", "1e-3", "0x1", "1,5", "0.9.5", "95%", " 1"),
            *("1 ", "nan", "inf", "-inf", "infinity", "0.1234567", "1234567890", "0000000000001"),
            *("0.0000000000001", "9" * 80, "\u0661", "0.\u0661", "1\n", "-1.", "1.-5"),
        )
    ],
]
CASES: list[Case] = [*_WORKLOAD, *_FLEX, *_MAX_HOLD, *_FINISH_BY, *_POWER_CAP]
CASES += [*_TIER, *_TIERS_OK, *_MIN_QUALITY]
CASES += [(option, normal, normal) for option, _, normal in CASES if normal is not None]
CASES = list(dict.fromkeys(CASES))
