"""Arrays, heterogeneous jobs, information, order and repetition of options, ways to ask for output."""

from collections.abc import Iterator

from tests.compat.case import ANCHOR, SCRIPT, Case, held_script, script


def cases() -> Iterator[Case]:
    """Make all of them."""
    yield from _arrays()
    yield from _heterogeneous()
    yield from _information()
    yield from _output()
    yield from _order()
    yield from _contradictions()
    yield from _as_root()


def _typed(name: str, *words: str | bytes) -> Case:
    return Case(name=name, words=(*words, "job.sh"))


def _arrays() -> Iterator[Case]:
    for indexes in (
        "0",
        "1-7:2",
        "0-1000",
        "0-1001",
        "3,1,2",
        "1-3%2",
        "1-3%0",
        "",
        "-1",
        "1-",
        "1-3%x",
        "0-10000",
        "1,1",
    ):
        yield _typed(f"array {indexes!r}", f"--array={indexes}")
    yield _typed("array and names", "-a1-2", "-o", "%A-%a.out", "-J", "sweep")
    yield _typed("array, parsable", "-a1-2", "--parsable")
    yield _typed("array, test-only", "-a1-2", "--test-only")
    yield _typed("array, dependency", "-a1-2", "-d", f"aftercorr:{ANCHOR}")


def _heterogeneous() -> Iterator[Case]:
    def typed(name: str, *words: str, **fields: object) -> Case:
        return Case(name=f"heterogeneous: {name}", words=words, held=False, **fields)  # type: ignore[arg-type]  # fields of Case

    yield typed("two", "-H", "-n1", ":", "-H", "-n2", "job.sh")
    yield typed("three", "-H", ":", "-H", "--mem=10", ":", "-H", "-c2", "job.sh", "a", "b")
    yield typed("names", "-H", "-Jfirst", ":", "-H", "-Jsecond", "job.sh")
    yield typed("wrapped", "-H", "--wrap=true", ":", "-H", "-n2")
    yield typed("input", "-H", "-n1", ":", "-H", "-n2", stdin=SCRIPT)
    yield typed("parsable", "-H", "--parsable", ":", "-H", "job.sh")
    yield typed("test-only", "-H", "--test-only", ":", "-H", "job.sh")
    yield typed("a bad component", "-H", ":", "-H", "-pside", "job.sh")
    yield typed("a bad option in the second", "-H", ":", "-H", "--zzz", "job.sh")
    yield typed("an array", "-H", "-a1-2", ":", "-H", "job.sh")
    yield typed("a colon first", ":", "-H", "job.sh")
    yield typed("a colon last", "-H", ":")
    yield typed("two colons", "-H", ":", ":", "-H", "job.sh")
    yield typed("a colon glued", "-H", "-n1:", "job.sh")
    yield typed("a value that is a colon", "-H", "--comment", ":", "job.sh")
    separators = {
        "hetjob": "#SBATCH hetjob",
        "packjob": "#SBATCH packjob",
        "hetjob with blanks": "#SBATCH   hetjob  ",
        "hetjob in capitals": "#SBATCH HETJOB",
        "hetjob and options": "#SBATCH hetjob --mem=10",
    }
    for name, line in separators.items():
        text = held_script("#SBATCH -n1", line, "#SBATCH --hold -n2")
        yield typed(f"script, {name}", "job.sh", files={"job.sh": text})
    text = held_script("#SBATCH -n1", "#SBATCH hetjob", "#SBATCH --hold -n2")
    yield typed("script and command line", "-n3", ":", "-n4", "job.sh", files={"job.sh": text})
    yield typed("script on input", stdin=text)


def _information() -> Iterator[Case]:
    for words in (
        ("--help",),
        ("-h",),
        ("--usage",),
        ("--version",),
        ("-V",),
        ("--hel",),
        ("--vers",),
        ("-Vh",),
        ("-vV",),
    ):
        name = "information " + " ".join(words)
        yield Case(name=name, words=words, held=False, adds_before=True)
    yield Case(name="help after the script", words=("job.sh", "--help"))
    yield Case(name="help with a bad option before", words=("--zzz", "--help"), held=False, adds_before=True)
    yield Case(name="version as a value", words=("--comment", "--version", "job.sh"))


def _output() -> Iterator[Case]:
    yield _typed("parsable", "--parsable")
    yield _typed("parsable, on a cluster", "--parsable", "-Mlab")
    yield _typed("parsable and quiet", "--parsable", "-Q")
    yield _typed("test-only", "--test-only")
    yield _typed("test-only and parsable", "--test-only", "--parsable")
    yield _typed("test-only, impossible", "--test-only", "-N99")
    yield _typed("verbose", "-v")
    yield _typed("verbose, twice", "-vv")
    yield _typed("verbose, as options", "--verbose", "--verbose", "--verbose")
    for name, line in {
        "output closed": 'exec "$@" >&-',
        "errors closed": 'exec "$@" 2>&-',
        "all closed": 'exec "$@" <&- >&- 2>&-',
        "a full disk": 'exec "$@" >/dev/full',
        "errors to a full disk": 'exec "$@" 2>/dev/full',
        "both into one": 'exec "$@" 2>&1',
        "interrupts ignored": 'trap "" INT TERM HUP PIPE; exec "$@"',
        "lower priority": 'exec nice -n 3 "$@"',
        "no core files": 'ulimit -c 0; exec "$@"',
        "few files": 'ulimit -n 32; exec "$@"',
        "small stack": 'ulimit -s 1024; exec "$@"',
        "a mask": 'umask 077; exec "$@"',
        "a subshell": '("$@"); exit $?',
        "by env": 'exec env -u TERM "$@"',
        "a folder that is gone": 'mkdir gone; cd gone; rmdir ../gone; exec "$@"',
    }.items():
        yield Case(name=name, words=("-Jodd", "--wrap=true"), through=line)
        yield Case(name=f"{name}, refused", words=("--nodes=many", "--wrap=true"), through=line)
    # The reader has gone before the first word: bash waits for its end.
    pipe = """exec bash -c 'exec 9> >(exec true); wait $!; exec "$@" >&9 9>&-' bash "$@" """
    yield Case(name="output to a pipe nobody reads", words=("--wrap=true",), through=pipe)


def _order() -> Iterator[Case]:
    yield _typed("the last value counts", "-J", "one", "-J", "two", "--job-name=three")
    yield _typed("bundled letters", "-HOk", "-QJ", "bundled")
    yield _typed("bundled with a value", "-HJbundled")
    yield _typed("bundled, value with =", "-HJ=bundled")
    yield _typed("bundled, unknown letter", "-HZ")
    yield _typed("a value that looks like an option", "-J", "--hold")
    yield _typed("a value of one dash", "-J", "-")
    yield _typed("a value of two dashes", "--job-name", "--")
    yield _typed("an empty value", "-J", "")
    yield _typed("an empty value, glued", "--job-name=")
    yield _typed("a value with newline", "--comment=one\ntwo")
    yield _typed("a value non-UTF-8", b"--comment=\xff\xfe\x80")
    yield _typed("a name non-UTF-8", b"-J\xff\xfe")
    yield _typed("an option non-UTF-8", b"--\xff\xfe")
    yield _typed("a short option non-UTF-8", b"-\xff")
    yield _typed("an option of other letters", "--größe=1")
    yield _typed("an unknown option", "--zzz")
    yield _typed("an unknown option with a value", "--zzz=1")
    yield _typed("an unknown letter", "-Z")
    yield _typed("an ambiguous beginning", "--no", "1")
    yield _typed("an ambiguous beginning with a value", "--n=1")
    yield _typed("one dash for a long option", "-job-name=x")
    yield _typed("a single dash letter", "--J=x")
    yield _typed("capitals", "--Job-Name=x")
    yield _typed("an underscore", "--job_name=x")
    yield Case(name="options after the script", words=("job.sh", "--nice=5", "-J", "x"))
    yield Case(name="two dashes, then the script", words=("-J", "x", "--", "job.sh", "--", "y"))
    yield Case(name="only two dashes", words=("--",), stdin=SCRIPT)
    yield _typed("many options", *[f"--nice={number}" for number in range(2000)])
    yield Case(name="a folder of other letters", words=("job.sh",), folder="größe 名前")
    yield Case(name="a folder non-UTF-8", words=("--parsable", "job.sh"), folder=b"\xff\xfe")
    yield Case(name="a folder with blanks", words=("job.sh",), folder=" two  words ")
    yield Case(name="a long folder", words=("job.sh",), folder="f" * 200)


def _contradictions() -> Iterator[Case]:
    yield _typed("too many nodes", "-N99")
    yield _typed("too many tasks", "-N1", "-n999")
    yield _typed("too many GPUs", "--gres=gpu:99")
    yield _typed("too much memory", "--mem=99T")
    yield _typed("two memories", "--mem=100", "--mem-per-cpu=100")
    yield _typed("three memories", "--mem=100", "--mem-per-cpu=100", "--mem-per-gpu=1")
    yield _typed("nodes and exclude", "-wc1", "-xc1")
    yield _typed("more nodes than named", "-N2", "-wc1")
    yield _typed("requeue and not", "--requeue", "--no-requeue")
    yield _typed("exclusive and shared", "--exclusive", "-s")
    yield _typed("time below its minimum", "-t1", "--time-min=9")
    yield _typed("begin after the deadline", "--begin=2099-01-02", "--deadline=2099-01-01")
    yield _typed("a deadline too near", "--deadline=now+1minute", "-t60")
    yield _typed("licences above the total", "-Lwatts:999999999")
    yield _typed("gpus both ways", "--gpus=3", "--gpus-per-node=2", "-N1")
    yield _typed("a wrong partition", "-pmain,side")
    yield _typed("an account of somebody else", "-Achemistry")
    yield _typed("tasks per node that do not fit", "-N1", "-n4", "--ntasks-per-node=2")
    yield _typed("hold and priority", "--priority=5")
    yield _typed("a begin of the past", "--begin=2001-01-01")
    yield _typed("quiet and verbose", "-Q", "-v")


def _as_root() -> Iterator[Case]:
    def typed(name: str, *words: str, **fields: object) -> Case:
        return Case(name=f"root: {name}", words=(*words, "job.sh"), user="root", **fields)  # type: ignore[arg-type]  # fields of Case

    yield typed("plain")
    yield typed("as a user", "--uid=alice")
    yield typed("as a user by number", "--uid=20001", "--gid=20001")
    yield typed("as nobody there is", "--uid=nobody-at-all")
    yield typed("a group", "--gid=alice")
    yield typed("a priority", "--priority=99")
    yield typed("a user's environment", "--uid=alice", "--get-user-env")
    yield typed("less nice", "--nice=-50")
    yield typed("a script unreadable for others", modes={"job.sh": 0o600}, files={"job.sh": script("true")})
