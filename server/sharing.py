"""Sharing: what several tickets have in common is in memory once.

Owns the parts (tokenizers, tables of weights), found by the sha256 of their content. A part lives as
long as a ticket holds it: weak references are the count, so nothing has to be given back. Each load
takes its parts through a `Parts` of its own, which keeps the account of what it took and made.
"""

import hashlib
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from server.memory import heap_bytes

T = TypeVar("T")


class Part(Generic[T]):
    """Something made from some content, and the bytes that it was measured to take."""

    __slots__ = ("__weakref__", "bytes", "key", "value")

    def __init__(self, key: str, value: T, size: int) -> None:
        self.key, self.value, self.bytes = key, value, size


class Shared:
    """All parts that are alive. Any thread may take from it."""

    def __init__(self, heap: Callable[[], int] = heap_bytes) -> None:
        self.heap = heap
        self._parts: weakref.WeakValueDictionary[str, Part[Any]] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._parts)

    def find(self, key: str) -> Part[Any] | None:
        """The part of this key, if somebody holds it."""
        with self._lock:
            return self._parts.get(key)

    def add(self, part: Part[Any]) -> None:
        """Let others find a part."""
        with self._lock:
            self._parts[part.key] = part


class Parts:
    """What one ticket takes of what is shared. Whoever holds this, or a copy of ``taken``, holds them."""

    def __init__(self, shared: Shared | None = None) -> None:
        self._shared = Shared() if shared is None else shared
        self.taken: dict[str, Part[Any]] = {}
        self.made_bytes = 0
        """Of the parts that nobody had yet."""

    def peek(self, kind: str, content: bytes | memoryview = b"") -> Any | None:  # noqa: ANN401
        """What `take` would find; it is not taken."""
        part = self._shared.find(_key(kind, content))
        return part.value if part is not None else None

    def take(self, kind: str, content: bytes | memoryview, make: Callable[[], T], *, size: int | None = None) -> T:
        """What ``make`` makes of ``content``; the same object for the same kind and content.

        ``kind`` must tell apart whatever is made differently of the same bytes. ``size``: the
        bytes that it takes, where they are known; otherwise the heap's growth is taken.
        """
        key = _key(kind, content)
        part: Part[T] | None = self.taken.get(key) or self._shared.find(key)
        if part is None:
            before, made_before = (self._shared.heap() if size is None else 0), self.made_bytes
            part = Part(key, make(), 0)  # which may take parts of its own
            grown = self._shared.heap() - before - (self.made_bytes - made_before) if size is None else size
            part.bytes = max(0, grown)
            self.made_bytes += part.bytes
            self._shared.add(part)
        self.taken[key] = part
        return part.value


def _key(kind: str, content: bytes | memoryview) -> str:
    return f"{kind}:{hashlib.sha256(content).hexdigest()}"
