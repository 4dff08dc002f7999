"""The stamp of a change, and whether what Redis holds is newer than what a process uses already. Pure.

A stamp is the id of the change's event in the stream: milliseconds of Redis's clock, and a number among those. It
grows with every change, after a flush too. So a gateway can tell the older state of a replica that was promoted, which
it must not follow, from the new life of a store that was emptied, which it must.
"""

from typing import Literal

import msgspec

Stamp = tuple[int, int]

Verdict = Literal["same", "newer", "older", "vanished"]


def read_stamp(text: bytes | None) -> Stamp | None:
    """``b"1700000000000-3"`` as numbers that can be compared; None for anything else."""
    head, dash, tail = (text or b"").partition(b"-")
    return (int(head), int(tail)) if dash and head.isdigit() and tail.isdigit() else None


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """What a process uses (``used``), and the older state it has met since and passed over, as Redis writes them."""

    used: bytes | None = None
    passed_over: bytes | None = None
    is_gone: bool = False
    """Whether Redis held nothing when it was last looked at."""

    def look(self, standing: bytes | None) -> Verdict:
        """What the publication that stands is to this process. One without a stamp cannot be older than another."""
        if standing is None:
            return "same" if self.used is None or self.is_gone else "vanished"
        if standing in (self.used, self.passed_over):
            return "same"
        mine = read_stamp(self.passed_over or self.used)  # after a fail-over, what was made upon the older state counts
        its = read_stamp(standing)
        return "older" if mine is not None and its is not None and its < mine else "newer"

    def after(self, standing: bytes | None, verdict: Verdict) -> "Followed":
        """What is followed once ``verdict`` has been acted on."""
        if verdict == "newer":
            return Followed(used=standing)
        if verdict == "older":
            return msgspec.structs.replace(self, passed_over=standing, is_gone=False)
        return msgspec.structs.replace(self, is_gone=standing is None)
