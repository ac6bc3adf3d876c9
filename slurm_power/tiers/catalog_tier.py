"""Reads one tier of a catalog: its model, its measured quality, its power, what its jobs are told."""

import re
from pathlib import Path

from slurm_power.model.tier import PowerSource, Quality, Tier, TierMethod
from slurm_power.tiers.catalog_fields import Fields, text_problem

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.+")
_OPTION = re.compile(r"--[a-z][a-z0-9-]*(=.*)?|-[A-Za-z]\S*", re.DOTALL)
_GPUS = re.compile(r"(?:--gpus=|-G)(?:[^:=]+:)?(\d+)")

# What makes a program load other code, become someone else, or take us or Slurm for something else.
_NOT_FOR_TIERS = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "IFS", "ENV", "CDPATH", "GLOBIGNORE", "PS4", "PROMPT_COMMAND",
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONUSERBASE", "PYTHONBREAKPOINT",
    "PERL5LIB", "PERL5OPT", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH", "JAVA_TOOL_OPTIONS",
    "CLASSPATH", "GCONV_PATH", "GLIBC_TUNABLES", "HOSTALIASES", "LOCPATH", "NLSPATH", "RES_OPTIONS",
    "OPENSSL_CONF", "KRB5CCNAME", "MODULEPATH", "LMOD_CMD", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK",
})  # fmt: skip
_NOT_FOR_TIERS_BEGIN = ("LD_", "BASH_", "DYLD_", "SLURM", "SBATCH_", "SRUN_", "SALLOC_", "SPANK_")
_OURS_BEGIN = ("PSBATCH_", "SLURM_POWER_", "POWER_TIER")

# What belongs to the job, not to the model it runs; and our own options, of which the tier is one.
_NOT_IN_SBATCH = frozenset({
    "--wrap", "--export", "--export-file", "--get-user-env", "--uid", "--gid", "--dependency", "--array",
    "--hold", "--requeue", "--no-requeue", "--parsable", "--test-only", "--wait", "--help", "--usage",
    "--version", "--tier", "--tiers-ok", "--min-quality", "-a", "-d", "-H", "-W", "-h", "-V",
})  # fmt: skip


def is_address(model: str) -> bool:
    """Whether a model lies behind an address such as ``hf://...`` and so in no folder of ours."""
    return bool(_ADDRESS.fullmatch(model))


def read_tier(fields: Fields, folder: Path) -> Tier:
    """One tier; not to be used if it has problems, which are told by the fields."""
    gpus = fields.whole("gpus", default=1) or 0
    watts, source = _power(fields, gpus)
    approved = fields.table("approved")
    by = date = None
    if approved is not None:
        by, date = approved.text("by", required=True), approved.day("date")
        approved.finish()
    tier = Tier(
        name=fields.name("name", required=True),
        method=fields.word("method", TierMethod, None) or TierMethod.NONE,
        parent=fields.name("parent"),
        model_path=_model(fields, folder),
        sha256=_sha256(fields),
        licence=fields.text("licence"),
        quality=_quality(fields.table("quality")),
        gpu_count=gpus,
        watts_per_gpu=watts,
        power_source=source,
        items_per_second=fields.number("items_per_second", above=0.0),
        latency_p50_seconds=fields.number("latency_p50_seconds", above=0.0),
        latency_p99_seconds=fields.number("latency_p99_seconds", above=0.0),
        joules_per_item=fields.number("joules_per_item", above=0.0),
        memory_bytes=fields.whole("memory_bytes"),
        model_bytes=fields.whole("model_bytes"),
        multiply_adds=fields.whole("multiply_adds"),
        sbatch=_sbatch(fields, gpus),
        environment=_environment(fields.table("environment")),
        approved_by=by or "",
        approved_date=date,
        better_than_parent=fields.text("better_than_parent"),
    )
    fields.finish()
    p50, p99 = tier.latency_p50_seconds, tier.latency_p99_seconds
    if p50 is not None and p99 is not None and p50 > p99:
        fields.say("latency_p50_seconds", f"{p50:g} is more than latency_p99_seconds, {p99:g}")
    return tier


def _power(fields: Fields, gpus: int) -> tuple[float | None, PowerSource]:
    watts = fields.number("watts_per_gpu", least=0.0)
    source = fields.word("power_source", PowerSource, PowerSource.UNKNOWN) or PowerSource.UNKNOWN
    if watts is not None and not fields.has("power_source"):
        fields.say("power_source", f"missing; say how watts_per_gpu was found: {', '.join(PowerSource)}")
    if watts == 0.0 and gpus > 0:
        fields.say("watts_per_gpu", "a GPU at work draws more than 0 W; leave it out where nobody knows")
    elif watts and gpus == 0:
        fields.say("watts_per_gpu", f"is {watts:g} while gpus is 0; a tier without GPUs has 0 or none")
    return watts, source


def _model(fields: Fields, folder: Path) -> str:
    model = fields.text("model")
    return model if not model or is_address(model) else str(folder / model)


def _sha256(fields: Fields) -> str:
    total = fields.text("sha256").removeprefix("sha256:")
    if total and not _SHA256.fullmatch(total):
        fields.say("sha256", "must be 64 digits of 0-9 and a-f, as `sha256sum` prints them")
    return total


def _quality(fields: Fields | None) -> Quality | None:
    if fields is None:
        return None
    value = fields.number("value")
    if value is None and not fields.has("value"):
        fields.say("value", "missing; give the metric as it was measured, or leave all of quality out")
    quality = Quality(
        value=0.0 if value is None else value,
        ci95=fields.number("ci95", least=0.0),
        sample_count=fields.whole("samples", least=1),
        worst_group=fields.number("worst_group"),
        worst_group_name=fields.text("worst_group_name"),
        groups=fields.numbers("groups"),
        more=fields.numbers("more"),
        measured_on=fields.text("on"),
        measured_date=fields.day("date"),
    )
    fields.finish()
    return quality


def _environment(fields: Fields | None) -> dict[str, str]:
    if fields is None:
        return {}
    found = {}
    for name in fields.names():
        value = fields.take(name)
        if problem := variable_problem(name):
            fields.say(name if _VARIABLE.fullmatch(name) else repr(name[:80]), problem)
        elif not isinstance(value, str):
            fields.say(name, f"must be a string, not {value!r}")
        elif problem := text_problem(value):
            fields.say(name, problem)
        else:
            found[name] = value
    return found


def variable_problem(name: str) -> str:
    """Why a tier may not set an environment variable of its job, empty where it may."""
    if not _VARIABLE.fullmatch(name):
        return "is no name of a variable"
    if name in _NOT_FOR_TIERS or name.startswith(_NOT_FOR_TIERS_BEGIN):
        return "may not be set by a catalog: it changes what the job loads, who it is, or what Slurm told it"
    return "is ours to set" if name.startswith(_OURS_BEGIN) else ""


def _sbatch(fields: Fields, gpus: int) -> tuple[str, ...]:
    value = fields.take("sbatch")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        fields.say("sbatch", "must be a list of strings")
        return ()
    for word in value:
        name = word.partition("=")[0] if word.startswith("--") else word[:2]
        asked = _GPUS.fullmatch(word)
        if problem := text_problem(word):
            fields.say("sbatch", f"{word[:80]!r} {problem}")
        elif not _OPTION.fullmatch(word):
            fields.say(
                "sbatch", f"{word!r} is no option of sbatch; write an option and its value as one: --gpus=2"
            )
        elif name in _NOT_IN_SBATCH:
            fields.say("sbatch", f"{name} is not for a tier to say")
        elif asked and int(asked[1]) != gpus:
            fields.say("sbatch", f"{word} asks for {int(asked[1])} GPUs, gpus is {gpus}")
    return tuple(value)
