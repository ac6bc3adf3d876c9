"""Secrets out of what people read: passwords in addresses, and values of keys that hold one."""

import re

HIDDEN = "(hidden)"
# Before @ stands who logs in; a bare name is no secret, but nobody can tell a token from a name.
# The scheme is not looked at: to look for where it begins costs the square of a long word's letters.
_LOGIN = re.compile(r"://[^\s/?#'\"]*@")
_WORD = (
    r"pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?|auth|api_?key|key|sig(?:nature)?|community"
)
_QUERY = re.compile(rf"(?P<name>[?&;][\w.%-]*(?:{_WORD})=)[^&;\s#'\"]*[^&;\s#'\":,.]", re.IGNORECASE)
# What follows ? may be written in percent signs, so that no name is seen.
_ESCAPED = re.compile(r"(?P<name>[?&;][\w.-]*%[0-9a-fA-F]{2}[\w.%-]*=)[^&;\s#'\"]*[^&;\s#'\":,.]")
_PASSWORD = re.compile(r"(?P<name>\b(?:ssl)?password=)[^&;\s#'\"]*[^&;\s#'\":,.]", re.IGNORECASE)
_KEY = re.compile(rf"(?:^|_)(?:{_WORD})$", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text with the login of each address in it, and each secret behind its ?, as ``(hidden)``."""
    if "=" not in text and "@" not in text:
        return text  # most lines of a log
    found = _LOGIN.sub(f"://{HIDDEN}@", text)
    for pattern in (_QUERY, _ESCAPED, _PASSWORD):
        found = pattern.sub(rf"\g<name>{HIDDEN}", found)
    return found


def holds_secret(key: str) -> bool:
    """Whether the value of a configuration's key is a secret; the path of a file with one is none."""
    return _KEY.search(key.rpartition(".")[2]) is not None
