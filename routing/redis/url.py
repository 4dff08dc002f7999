"""The URL of a Redis: which forms there are, and what one says.

Owns reading it. No error and no `repr` from here holds any part of a URL that may be a password: a URL that does not
read is answered with the accepted forms alone. What is done with an `Address` belongs to `routing.redis.connection`.
"""

import re
from collections.abc import Mapping
from typing import Literal, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

FORMS = (
    "redis://[user:password@]host[:port][/db], rediss://... for TLS, unix://[user:password@]/path[?db=0], "
    "redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db] and "
    "redis+cluster://[user:password@]host[:port][,host[:port]...], both with rediss+ for TLS"
)

Kind = Literal["server", "socket", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("server", False), "rediss": ("server", True), "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False), "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False), "rediss+cluster": ("cluster", True),
}  # fmt: skip
_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    "server": ("db",),
    "socket": ("db",),
    "sentinel": ("db", "sentinel_username", "sentinel_password"),
    "cluster": (),
}
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_BOOLEAN = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says. Its `repr` and `str` hold no password."""

    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    """Hosts and ports: of the server, of Sentinels, or of nodes of the cluster."""
    path: str = ""
    """Of the Unix socket."""
    service: str = ""
    """What the Sentinels call the primary."""
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    """The Sentinels' own, which is seldom the servers'."""
    is_tls: bool = False
    tls: Mapping[str, str | bool] = {}
    """``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs``, ``ssl_check_hostname``."""

    def __str__(self) -> str:
        scheme = next(name for name, form in _SCHEMES.items() if form == (self.kind, self.is_tls))
        user = "" if self.username is None and self.password is None else f"{self.username or ''}:***@"
        where = ",".join(f"{host}:{port}" for host, port in self.nodes) + self.path
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}://{user}{where}{service}" + (f"?db={self.db}" if self.db else "")

    def __repr__(self) -> str:
        return f"Address({self})"


def redacted(url: str) -> str:
    """The URL as it may be shown and logged. One that does not read is not shown at all."""
    try:
        return str(read_url(url))
    except ValueError:
        return "(not a Redis URL)"


def read_url(url: str) -> Address:
    """What ``url`` says. Raises ValueError, which names the accepted forms and never quotes the URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        _refuse("it does not read as a URL")
    if parts.scheme not in _SCHEMES:
        _refuse("its beginning is none of these")
    if parts.fragment or any(character.isspace() for character in url):
        _refuse("write '#' and spaces in a password as %23 and %20")
    kind, is_tls = _SCHEMES[parts.scheme]
    options = _options(parts.query, kind, is_tls)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    service, db = _path(parts, kind, hosts)
    if db is None:
        db = str(options.pop("db", "0"))
    if not db.isdecimal() or len(db) > 4 or "db" in options:
        _refuse("the database must be a number, given once")
    return Address(
        kind=kind,
        nodes=() if kind == "socket" else _nodes(hosts, kind),
        path=unquote(parts.path) if kind == "socket" else "",
        service=service,
        db=int(db),
        username=unquote(name) or None,
        password=unquote(password) or None,
        sentinel_username=_string(options.pop("sentinel_username", None)),
        sentinel_password=_string(options.pop("sentinel_password", None)),
        is_tls=is_tls,
        tls=options,
    )


def _path(parts: SplitResult, kind: Kind, hosts: str) -> tuple[str, str | None]:
    """The service and the database that the path names."""
    steps = [unquote(step) for step in parts.path.split("/") if step]
    if kind == "socket":
        if hosts or not steps:
            _refuse("a socket's path begins with '/'")
        return "", None
    if kind == "sentinel":
        if not 1 <= len(steps) <= 2 or not re.fullmatch(r"[A-Za-z0-9_.-]+", steps[0]):
            _refuse("the Sentinels' name of the service is missing")
        return steps[0], steps[1] if len(steps) == 2 else None
    if len(steps) > (0 if kind == "cluster" else 1):
        _refuse(
            "a cluster has no databases" if kind == "cluster" else "a host and a port end at '/' (in a password: %2F)"
        )
    return "", steps[0] if steps else None


def _nodes(hosts: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    nodes = []
    for node in hosts.split(","):
        match = _NODE.fullmatch(node)
        if match is None or not 1 <= int(match["port"] or 1) <= 65535:
            _refuse("a host or port does not read; write '@', ':' and '/' in a password as %40, %3A and %2F")
        nodes.append((match["host"].strip("[]"), int(match["port"] or _PORTS[kind])))
    if kind == "server" and len(nodes) > 1:
        _refuse("several hosts need redis+sentinel:// or redis+cluster://")
    return tuple(nodes)


def _options(query: str, kind: Kind, is_tls: bool) -> dict[str, str | bool]:
    """The options of the query, those of TLS with their defaults."""
    known = (*_OPTIONS[kind], *(_TLS_OPTIONS if is_tls else ()))
    options: dict[str, str | bool] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True} if is_tls else {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            _refuse(f"its options may be {', '.join(known) or 'none'}")
        if name == "ssl_check_hostname":
            if value.lower() not in _BOOLEAN:
                _refuse("ssl_check_hostname is true or false")
            options[name] = _BOOLEAN[value.lower()]
        else:
            options[name] = value
    if is_tls and options["ssl_cert_reqs"] not in ("required", "none"):
        _refuse("ssl_cert_reqs is required or none")
    if is_tls and options["ssl_cert_reqs"] == "none":
        options["ssl_check_hostname"] = False
    return options


def _string(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) else None


def _refuse(why: str) -> NoReturn:
    raise ValueError(f"not a Redis URL ({why}): use {FORMS}") from None
