"""The reference part of docs/web-api.md, made from the table of endpoints; run as a module it prints it."""

from collections.abc import Iterable, Mapping
from typing import Any

from slurm_power.web.calls import Endpoint
from slurm_power.web.openapi import errors_of
from slurm_power.web.table import TABLE


def reference(endpoints: Iterable[Endpoint] = TABLE) -> str:
    """One section for each endpoint, in Markdown."""
    return "\n".join(line for one in endpoints for line in _section(one)).strip() + "\n"


def _section(one: Endpoint) -> list[str]:
    role = "nobody's proof" if one.role is None else f"least role `{one.role}`"
    lines = [f"### {one.method} {one.path.removeprefix('/api/v1')}", ""]
    lines += [f"{one.summary}: {role}{', a deed' if one.deed else ''}. {one.about}".rstrip(), ""]
    rows = [("path", name, schema, True) for name, schema in one.places.items()]
    rows += [("query", name, schema, False) for name, schema in one.query.items()]
    if one.body is not None:
        required = one.body["required"]
        rows += [("body", name, each, name in required) for name, each in one.body["properties"].items()]
    if rows:
        lines += ["| where | field | kind | needed | meaning |", "|---|---|---|---|---|"]
        lines += [_row(*row) for row in rows]
        lines.append("")
    fails = ", ".join(map(str, errors_of(one)))
    return [*lines, f"Answers {one.status}; fails with {fails}.", ""]


def _row(where: str, name: str, schema: Mapping[str, Any], needed: bool) -> str:
    meaning = schema.get("description", "")
    return f"| {where} | `{name}` | {_kind(schema)} | {'yes' if needed else 'no'} | {meaning} |"


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "enum" in schema:
        return " or ".join(f"`{one}`" for one in schema["enum"])
    bounds = []
    if "exclusiveMinimum" in schema:
        bounds.append(f"above {schema['exclusiveMinimum']:g}")
    if "minimum" in schema:
        bounds.append(f"from {schema['minimum']:g}")
    if "maximum" in schema:
        bounds.append(f"to {schema['maximum']:g}")
    if "maxLength" in schema:
        bounds.append(f"at most {schema['maxLength']} letters")
    return ", ".join([words, *bounds])


if __name__ == "__main__":
    print(reference(), end="")
