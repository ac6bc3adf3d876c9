"""The few words of JSON Schema that the interface is described with, and the check of values against them."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from slurm_power.config.problems import did_you_mean

Schema = Mapping[str, Any]

_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_WORDS = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


def text(**more: Any) -> dict[str, Any]:
    """A text."""
    return {"type": "string", **more}


def number(**more: Any) -> dict[str, Any]:
    """A number."""
    return {"type": "number", **more}


def integer(**more: Any) -> dict[str, Any]:
    """A whole number."""
    return {"type": "integer", **more}


def boolean(**more: Any) -> dict[str, Any]:
    """True or false."""
    return {"type": "boolean", **more}


def a_list(items: Schema, **more: Any) -> dict[str, Any]:
    """A list whose entries are all of one kind."""
    return {"type": "array", "items": dict(items), **more}


def an_object(required: tuple[str, ...] = (), **properties: Schema) -> dict[str, Any]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def read_text(value: str, schema: Schema) -> Any:
    """A query's text as the value that its schema asks for; what cannot be one stays a text."""
    kind = schema["type"]
    try:
        if kind == "integer":
            return int(value) if re.fullmatch(r"-?\d{1,18}", value) else value
        if kind == "number":
            return (
                float(value) if re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,3})?", value) else value
            )
    except ValueError:
        return value
    return {"true": True, "false": False}.get(value, value) if kind == "boolean" else value


def problems_of(value: Any, schema: Schema, where: str) -> list[str]:
    """All that is wrong with a value, each problem with its field."""
    kind = schema["type"]
    if isinstance(kind, list):
        if value is None:
            return []
        kind = kind[0]  # or null, as just seen
    fits = isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        fits = True  # JSON knows one kind of numbers
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        return [f"{where}: must be {_WORDS[kind]}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: not one of {', '.join(map(str, schema['enum']))}"]
    return _LOOKS[kind](value, schema, where)


def _object_problems(value: Any, schema: Schema, where: str) -> list[str]:
    properties, more = schema["properties"], schema["additionalProperties"]
    path = "" if where == "body" else f"{where}."
    found = [f"{path}{key}: missing" for key in schema["required"] if key not in value]
    for key, member in value.items():
        if key in properties:
            found += problems_of(member, properties[key], f"{path}{key}")
        elif more:
            found += problems_of(member, more, f"{path}{key[:40]}")
        else:
            found.append(f"{path}{key[:40]}: unknown{did_you_mean(key[:40], properties)}")
    return found


def _text_problems(value: Any, schema: Schema, where: str) -> list[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    if not least <= len(value) <= most:
        return [f"{where}: must have {least} to {most} characters"]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{where}: {schema.get('description') or 'not written as it should be'}"]
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        return [f"{where}: holds half a character, which cannot be stored"]
    return []


def _number_problems(value: Any, schema: Schema, where: str) -> list[str]:
    low, high = schema.get("minimum", -1e12), schema.get("maximum", 1e12)
    above = schema.get("exclusiveMinimum")
    if above is not None and value <= above:
        return [f"{where}: must be above {above:g}"]
    return [] if low <= value <= high else [f"{where}: must be from {low:g} to {high:g}"]


def _list_problems(value: Any, schema: Schema, where: str) -> list[str]:
    most = schema.get("maxItems", 1000)
    if len(value) > most:
        return [f"{where}: must have at most {most} entries"]
    return [
        problem
        for place, entry in enumerate(value)
        for problem in problems_of(entry, schema["items"], f"{where}[{place}]")
    ]


_LOOKS: Mapping[str, Callable[[Any, Schema, str], list[str]]] = {
    "object": _object_problems,
    "array": _list_problems,
    "string": _text_problems,
    "number": _number_problems,
    "integer": _number_problems,
    "boolean": lambda _value, _schema, _where: [],
}
