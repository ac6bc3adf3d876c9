"""JSON schemas of those parts of OpenADR 3.1 that the test bed's VTN takes and gives, in our own words."""

from typing import Any

_NAME = {"type": "string", "minLength": 1, "maxLength": 128}
_ID = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,128}$"}
_MOMENT = {"type": "string", "minLength": 10, "maxLength": 64}
_DURATION = {
    "type": "string",
    "pattern": r"^-?P(?=\d|T\d)(\d+Y)?(\d+M)?(\d+[DW])?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$",
}
_PERIOD = {
    "type": "object",
    "properties": {"start": _MOMENT, "duration": _DURATION, "randomizeStart": _DURATION},
}
_VALUES = {
    "type": "object",
    "required": ["type", "values"],
    "properties": {
        "type": _NAME,
        "values": {"type": "array", "items": {"type": ["number", "string", "boolean", "object"]}},
    },
}
_INTERVAL = {
    "type": "object",
    "required": ["id", "payloads"],
    "properties": {
        "id": {"type": "integer"},
        "intervalPeriod": _PERIOD,
        "payloads": {"type": "array", "items": _VALUES},
    },
}
_EVENT_PAYLOAD = {
    "type": "object",
    "required": ["objectType", "payloadType"],
    "properties": {"objectType": {"const": "EVENT_PAYLOAD_DESCRIPTOR"}, "payloadType": _NAME},
}
_REPORT_PAYLOAD = {
    "type": "object",
    "required": ["objectType", "payloadType"],
    "properties": {
        "objectType": {"const": "REPORT_PAYLOAD_DESCRIPTOR"},
        "payloadType": _NAME,
        "readingType": {"type": ["string", "null"]},
        "units": {"type": ["string", "null"]},
    },
}
_TARGET_OF_30 = {
    "type": "object",
    "required": ["type", "values"],
    "properties": {"type": _NAME, "values": {"type": "array"}},
}
# 3.0 has types and values where 3.1 has plain words.
_TARGETS = {"type": ["array", "null"], "items": {"anyOf": [_NAME, _TARGET_OF_30]}}

PROGRAM: dict[str, Any] = {
    "type": "object",
    "required": ["programName"],
    "properties": {
        "programName": _NAME,
        "intervalPeriod": _PERIOD,
        "payloadDescriptors": {
            "type": ["array", "null"],
            "items": {"anyOf": [_EVENT_PAYLOAD, _REPORT_PAYLOAD]},
        },
        "targets": _TARGETS,
    },
}
EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["programID"],
    "properties": {
        "programID": _ID,
        "eventName": {"type": ["string", "null"]},
        "duration": _DURATION,
        "priority": {"type": ["integer", "null"], "minimum": 0},
        "targets": _TARGETS,
        "payloadDescriptors": {"type": ["array", "null"], "items": _EVENT_PAYLOAD},
        "reportDescriptors": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "required": ["payloadType"],
                "properties": {
                    "payloadType": _NAME,
                    "startInterval": {"type": "integer"},
                    "numIntervals": {"type": "integer"},
                    "frequency": {"type": "integer"},
                    "repeat": {"type": "integer"},
                    "historical": {"type": "boolean"},
                },
            },
        },
        "intervalPeriod": _PERIOD,
        "intervals": {"type": "array", "items": _INTERVAL},
    },
}
REPORT: dict[str, Any] = {
    "type": "object",
    "required": ["eventID", "clientName", "resources"],
    "properties": {
        "eventID": _ID,
        "clientName": _NAME,
        "reportName": {"type": ["string", "null"]},
        "payloadDescriptors": {"type": ["array", "null"], "items": _REPORT_PAYLOAD},
        "resources": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["resourceName", "intervals"],
                "properties": {
                    "resourceName": _NAME,
                    "intervalPeriod": _PERIOD,
                    "intervals": {"type": "array", "items": _INTERVAL},
                },
            },
        },
    },
}
VEN: dict[str, Any] = {
    "type": "object",
    "required": ["objectType", "venName"],
    "properties": {"objectType": {"const": "VEN_VEN_REQUEST"}, "venName": _NAME},
}
RESOURCE: dict[str, Any] = {
    "type": "object",
    "required": ["objectType", "resourceName", "venID"],
    "properties": {
        "objectType": {"const": "VEN_RESOURCE_REQUEST"},
        "resourceName": _NAME,
        "venID": _ID,
    },
}
BY_PATH = {"programs": PROGRAM, "events": EVENT, "reports": REPORT, "vens": VEN, "resources": RESOURCE}
