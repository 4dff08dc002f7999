"""The placement: which workers a ticket would rather live on.

Rendezvous hashing, highest random weight first (Thaler & Ravishankar, "Using name-based mappings
to increase hit rates", IEEE/ACM ToN 6(1), 1998): every ticket ranks the workers in its own order,
everybody computes the same order without talking, and a worker that comes or goes moves only the
tickets that rank it first. It knows neither load nor memory: whether a ticket spreads to the next
in rank is `routing.decide`'s business.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b

_SUCCESSOR = re.compile(r"(worker-[0-9]+)\.[0-9]+")


def ranked(ticket: str, workers: Sequence[str]) -> list[str]:
    """The names of ``workers`` in the order in which ``ticket`` should live on them."""
    return sorted(workers, key=lambda worker: score(ticket, worker), reverse=True)


def score(ticket: str, worker: str) -> tuple[bytes, str]:
    """How much the ticket prefers the worker: higher is better. Names decide between equal hashes."""
    key = ticket.encode("utf-8", "surrogatepass")[:64]
    place = place_of(worker).encode("utf-8", "surrogatepass")
    return blake2b(place, key=key, digest_size=8).digest(), worker


def place_of(worker: str) -> str:
    """What a rolling restart keeps: ``worker-0.3`` has come in the place, and to the tickets, of ``worker-0``."""
    if "." not in worker:
        return worker
    successor = _SUCCESSOR.fullmatch(worker)
    return successor[1] if successor else worker
