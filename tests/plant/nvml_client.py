"""A process that drives NVML through the unmodified nvidia-ml-py: a JSON request a line in, an answer out.
With a user id as its argument it goes on as that user.

Request: {"call": NAME, "gpu": INDEX or UUID or null, "arguments": [...]}; handles are kept, as daemons
keep them.
"""

import ctypes
import json
import os
import sys
from typing import Any

import pynvml

HANDLES: dict[int | str, object] = {}


def handle(key: int | str) -> object:
    if key not in HANDLES:
        find = pynvml.nvmlDeviceGetHandleByUUID if isinstance(key, str) else pynvml.nvmlDeviceGetHandleByIndex
        HANDLES[key] = find(key)
    return HANDLES[key]


def plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple | ctypes.Array):
        return [plain(item) for item in value]
    if isinstance(value, pynvml.c_nvmlFieldValue_t):
        wide = value.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
        return [value.fieldId, value.nvmlReturn, value.value.ullVal if wide else value.value.uiVal]
    if hasattr(value, "_fields_"):
        return {name: plain(getattr(value, name)) for name, _ in value._fields_}
    return vars(value) if hasattr(value, "__dict__") else value


def field_request(item: object) -> object:
    """Scoped fields are pairs, and JSON knows no tuples."""
    return tuple(item) if isinstance(item, list) else item


def answer(request: dict[str, Any]) -> dict[str, object]:
    try:
        arguments = request["arguments"]
        if request["call"] == "nvmlDeviceGetFieldValues":
            arguments = [[field_request(item) for item in arguments[0]]]
        if request["gpu"] is not None:
            arguments.insert(0, handle(request["gpu"]))
        return {"value": plain(getattr(pynvml, request["call"])(*arguments))}
    except pynvml.NVMLError as error:
        return {"error": type(error).__name__, "code": error.value}


if sys.argv[1:]:
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)), default=plain), flush=True)
