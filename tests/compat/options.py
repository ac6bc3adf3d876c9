"""Every option of sbatch 22.05 to 26.05: values it takes, values it refuses, and its environment variable.

From each row ``cases_options`` makes the invocations. An option that sbatch has and this table has not fails
the suite by name.
"""

from dataclasses import dataclass

from tests.compat.case import ANCHOR


@dataclass(frozen=True, slots=True)
class Option:
    """A row. ``takes`` is value, optional or nothing; ``variable`` the input variable that means the same."""

    name: str
    takes: str
    short: str = ""
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    variable: str = ""


def _value(name: str, *good: str, bad: tuple[str, ...] = (), short: str = "", variable: str = "") -> Option:
    return Option(name, "value", short, good, bad, variable)


def _nothing(name: str, *, short: str = "", variable: str = "") -> Option:
    return Option(name, "nothing", short, (), (), variable)


def _optional(
    name: str, *good: str, bad: tuple[str, ...] = (), short: str = "", variable: str = ""
) -> Option:
    return Option(name, "optional", short, good, bad, variable)


OPTIONS = (
    _value("account", "physics", bad=("nobodys",), short="A", variable="SBATCH_ACCOUNT"),
    _value("acctg-freq", "task=30", bad=("task=-x",), variable="SBATCH_ACCTG_FREQ"),
    _value("array", "0-3", "1,5,9%2", bad=("x", "5-1", "0-9999999"), short="a", variable="SBATCH_ARRAY_INX"),
    _value("batch", "fast", variable="SBATCH_BATCH"),
    _value("bb", "capacity=1G", variable="SBATCH_BURST_BUFFER"),
    _value("bbf", "job.sh", bad=("missing.bb",)),
    _value("begin", "2099-01-02T03:04:05", "now+1hour", bad=("someday",), short="b"),
    _value("chdir", "/tmp", bad=("/not/there",), short="D"),
    _value("cluster-constraint", "big", variable="SBATCH_CLUSTER_CONSTRAINT"),
    _value("clusters", "lab", bad=("elsewhere",), short="M", variable="SBATCH_CLUSTERS"),
    _value("cluster", "lab"),
    _value("comment", "a comment, with = and  blanks", "#hash", ""),
    _value("constraint", "none", bad=("no[such", "fast&&slow"), short="C", variable="SBATCH_CONSTRAINT"),
    _value("container", "/tmp/bundle", variable="SBATCH_CONTAINER"),
    _value("container-id", "box", variable="SBATCH_CONTAINER_ID"),
    _value("core-spec", "1", bad=("x",), variable="SBATCH_CORE_SPEC", short="S"),
    _value("cores-per-socket", "2", bad=("x",)),
    _value("cpu-freq", "medium", bad=("warp",), variable="SBATCH_CPU_FREQ_REQ"),
    _value("cpus-per-gpu", "2", bad=("0", "x"), variable="SBATCH_CPUS_PER_GPU"),
    _value("cpus-per-task", "2", bad=("0", "x"), short="c"),
    _value("deadline", "2099-01-02T03:04:05", "now+2hours", bad=("never", "2001-01-01")),
    _value("delay-boot", "5", bad=("x",), variable="SBATCH_DELAY_BOOT"),
    _value(
        "dependency",
        f"afterany:{ANCHOR}",
        "singleton",
        bad=("afterok:999999", "sometime:1", "afterok"),
        short="d",
    ),
    _value("distribution", "cyclic", bad=("spiral",), short="m", variable="SBATCH_DISTRIBUTION"),
    _value("error", "%x-%j.err", short="e", variable="SBATCH_ERROR"),
    _value("exclude", "c2", bad=("nowhere",), short="x"),
    _optional("exclusive", "user", "mcs", bad=("mine",), variable="SBATCH_EXCLUSIVE"),
    _value("export", "NONE", "ALL", "HOME,FRESH=1", "ALL,FRESH=a b", variable="SBATCH_EXPORT"),
    _value("export-file", "environment.file", bad=("missing.file", "99")),
    _value("extra", "words"),
    _value("extra-node-info", "1:2:1", bad=("x",), short="B"),
    _nothing("contiguous"),
    _optional("get-user-env", variable="SBATCH_GET_USER_ENV"),
    _value("gid", "alice"),
    _value("gpu-bind", "closest", bad=("tied",), variable="SBATCH_GPU_BIND"),
    _value("gpu-freq", "medium", bad=("warp",), variable="SBATCH_GPU_FREQ"),
    _value("gpus", "2", "h100:1", bad=("x:y:z", "-1"), short="G", variable="SBATCH_GPUS"),
    _value("gpus-per-node", "2", bad=("x:y:z",), variable="SBATCH_GPUS_PER_NODE"),
    _value("gpus-per-socket", "1", bad=("x:y:z",), variable="SBATCH_GPUS_PER_SOCKET"),
    _value("gpus-per-task", "1", bad=("x:y:z",), variable="SBATCH_GPUS_PER_TASK"),
    _value("gres", "gpu:h100:1", bad=("gpu:zz:1", "fpga:1"), variable="SBATCH_GRES"),
    _value("gres-flags", "enforce-binding", bad=("loose",), variable="SBATCH_GRES_FLAGS"),
    _nothing("hold", short="H"),
    _value("hint", "compute_bound", bad=("please",), variable="SBATCH_HINT"),
    _nothing("ignore-pbs", variable="SBATCH_IGNORE_PBS"),
    _value("input", "job.sh", short="i", variable="SBATCH_INPUT"),
    _value("job-name", "a name", "--odd", short="J", variable="SBATCH_JOB_NAME"),
    _value("kill-on-invalid-dep", "yes", bad=("maybe",)),
    _value("licenses", "watts:10", bad=("unicorns:1",), short="L"),
    _value("mail-type", "END,FAIL", bad=("SOMETIMES",)),
    _value("mail-user", "alice@example.org"),
    _value("mcs-label", "secret"),
    _value("mem", "500M", "1G", bad=("lots", "999999G"), variable="SBATCH_MEM_PER_NODE"),
    _value("mem-bind", "local", bad=("tied",), variable="SBATCH_MEM_BIND"),
    _value("mem-per-cpu", "100", bad=("lots",), variable="SBATCH_MEM_PER_CPU"),
    _value("mem-per-gpu", "1G", bad=("lots",), variable="SBATCH_MEM_PER_GPU"),
    _value("mincpus", "2", bad=("x",)),
    _value("network", "ib", variable="SBATCH_NETWORK"),
    _optional("nice", "100", "-5", bad=("x", "99999999999")),
    _optional("no-kill", "off", short="k", variable="SBATCH_NO_KILL"),
    _value("nodefile", "nodes.txt", bad=("missing.txt",), short="F"),
    _value("nodelist", "c1", bad=("nowhere", "c[1"), short="w"),
    _nothing("no-requeue", variable="SBATCH_NO_REQUEUE"),
    _value("nodes", "1", "1-2", bad=("0", "x", "2-1", "9999"), short="N"),
    _value("ntasks", "2", bad=("0", "x"), short="n"),
    _value("ntasks-per-core", "1", bad=("x",)),
    _value("ntasks-per-gpu", "1", bad=("x",)),
    _value("ntasks-per-node", "2", bad=("x",)),
    _value("ntasks-per-socket", "1", bad=("x",)),
    _value("open-mode", "append", bad=("sideways",), variable="SBATCH_OPEN_MODE"),
    _value("output", "out/%A_%a.txt", "", short="o", variable="SBATCH_OUTPUT"),
    _nothing("overcommit", short="O", variable="SBATCH_OVERCOMMIT"),
    _optional("oversubscribe", "yes", short="s"),
    _nothing("parsable"),
    _value("partition", "main", bad=("side",), short="p", variable="SBATCH_PARTITION"),
    _value("power", "level", bad=("much",), variable="SBATCH_POWER"),
    _value("priority", "7", "TOP", bad=("x", "-2")),
    _value("profile", "task", bad=("left",), variable="SBATCH_PROFILE"),
    _optional("propagate", "STACK", "NONE", bad=("LUCK",)),
    _value("qos", "flexible", bad=("royal",), short="q", variable="SBATCH_QOS"),
    _nothing("quiet", short="Q"),
    _nothing("reboot"),
    _nothing("requeue", variable="SBATCH_REQUEUE"),
    _value("reservation", bad=("missing",), variable="SBATCH_RESERVATION"),
    _nothing("share"),
    _value("signal", "B:USR1@60", bad=("LOUD@x",), variable="SBATCH_SIGNAL"),
    _value("sockets-per-node", "1", bad=("x",)),
    _nothing("spread-job", variable="SBATCH_SPREAD_JOB"),
    _value("switches", "1@5", bad=("x",), variable="SBATCH_REQ_SWITCH"),
    _value("tasks-per-node", "2"),
    _nothing("test-only"),
    _value("thread-spec", "1", bad=("x",), variable="SBATCH_THREAD_SPEC"),
    _value("threads-per-core", "1", bad=("x",), variable="SBATCH_THREADS_PER_CORE"),
    _value("time", "5", "1-02:03:04", "0", bad=("soon", "1:2:3:4"), short="t", variable="SBATCH_TIMELIMIT"),
    _value("time-min", "1", bad=("soon",)),
    _value("tmp", "1", bad=("lots",)),
    _value("uid", "alice", bad=("0",)),
    _nothing("use-min-nodes", variable="SBATCH_USE_MIN_NODES"),
    _nothing("verbose", short="v", variable="SBATCH_DEBUG"),
    _value("wait-all-nodes", "1", bad=("x",), variable="SBATCH_WAIT_ALL_NODES"),
    _value("wckey", "key", variable="SBATCH_WCKEY"),
    # From 24.11 and 26.05 on; earlier ones refuse them, in both commands alike.
    _value("autocomplete", "--nod"),
    _value("context", "words"),
    _value("mem-update", "x"),
    _value("ntasks-per-tres", "gpu:1"),
    _nothing("oom-kill-step"),
    _value("prefer", "fast", bad=("no[such",)),
    _value("resources", "x"),
    _nothing("resv-ports"),
    _value("container-type", "oci", variable="SBATCH_CONTAINER_TYPE"),
    _value("segment", "1", bad=("x",), variable="SBATCH_SEGMENT_SIZE"),
    _nothing("consolidate-segments", variable="SBATCH_CONSOLIDATE_SEGMENTS"),
    _nothing("spread-segments", variable="SBATCH_SPREAD_SEGMENTS"),
    _nothing("stepmgr"),
    _nothing("external"),
    _value("tres-bind", "gres/gpu:closest", bad=("tied",), variable="SBATCH_TRES_BIND"),
    _value("tres-per-task", "cpu:1", bad=("x:y:z",), variable="SBATCH_TRES_PER_TASK"),
)

# Written out among the other cases: what they do is no job's record.
ELSEWHERE = ("help", "usage", "version", "wait", "wrap")
