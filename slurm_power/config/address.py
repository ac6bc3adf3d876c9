"""What can be wrong with an address that stands in site.toml."""

from urllib.parse import urlsplit

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def address_problems(key: str, text: str, *, example: str, danger: str, query: bool = False) -> list[str]:
    """Secrets in it, or a way on which everybody reads along. ``danger``: what they could do then.

    ``query``: whether it may have one.
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return [f"{key}: {text!r} is no address; write {example}"]
    if parts.scheme not in ("http", "https") or not host or not text.isascii() or not text.isprintable():
        return [f"{key}: {text!r} is no address; write {example}"]
    found = []
    if parts.username is not None or parts.password is not None:
        found.append(f"{key}: has a password in it; secrets stand in files of their own")
    if parts.fragment or (parts.query and not query):
        found.append(
            f"{key}: must end with its {'query' if query else 'path'}, without {'' if query else '? and '}#"
        )
    if parts.scheme == "http" and host not in _LOOPBACK:
        found.append(f"{key}: must be https, as everybody on the way could {danger}")
    return found
