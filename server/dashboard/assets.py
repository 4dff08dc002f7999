"""The page's files: read and compressed once, when the gateway starts, and served from memory.

Owns their types, their entity tags, and the address that changes with their content: below it a browser keeps them for
good, and the page, which is asked for again each time, names it. What is in them is the page's own.
"""

import gzip
import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable

import msgspec

PAGE = "index.html"
FOLDER = "dashboard/assets/"
"""As the page refers to its files: relative to /dashboard."""
DIGITS = 12
_TYPES = {
    "html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml", "png": "image/png", "json": "application/json", "woff2": "font/woff2",
    "txt": "text/plain; charset=utf-8",
}  # fmt: skip
_ZIPPED = frozenset({"html", "css", "js", "svg", "json", "txt"})
_VERSION = re.compile(rf"([0-9a-f]{{{DIGITS}}})/(.+)", re.DOTALL)


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it is served."""

    plain: bytes
    zipped: bytes | None
    """None: compressing gains nothing."""
    media_type: str
    etag: str


class Assets:
    """All files of the page."""

    def __init__(self, folder: Traversable | None = None) -> None:
        """``folder``: the package's own where it is absent. Files of other types than a page has are left out."""
        folder = folder if folder is not None else resources.files("server.dashboard") / "assets"
        contents = {
            file.name: file.read_bytes()
            for file in sorted(folder.iterdir(), key=lambda file: file.name)
            if file.is_file() and _ending(file.name) in _TYPES
        }
        digest = hashlib.sha256()
        for name, content in contents.items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        self.version = digest.hexdigest()[:DIGITS]
        """Of all contents together."""
        page = contents.pop(PAGE).replace(FOLDER.encode(), f"{FOLDER}{self.version}/".encode())
        self.page = _asset(PAGE, page)
        self._files = {name: _asset(name, content) for name, content in contents.items()}

    def find(self, path: str) -> tuple[Asset, bool] | None:
        """The file at ``name`` or ``version/name``, and whether this address will never have another content.

        Another version's address has this version's file: while gateways are being replaced, one may have given the
        page and another be asked for its files.
        """
        match = _VERSION.fullmatch(path)
        version, name = match.groups() if match else ("", path)
        asset = self._files.get(name)
        return None if asset is None else (asset, version == self.version)


def _asset(name: str, content: bytes) -> Asset:
    zipped = gzip.compress(content, 9, mtime=0) if _ending(name) in _ZIPPED else None
    return Asset(
        plain=content, zipped=zipped if zipped is not None and len(zipped) < len(content) else None,
        media_type=_TYPES[_ending(name)], etag=f'"{hashlib.sha256(content).hexdigest()[:16]}"',
    )  # fmt: skip


def _ending(name: str) -> str:
    return name.rpartition(".")[2]
