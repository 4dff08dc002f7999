"""Names: what a ticket's manifest lets a domain, a tier and a label be called, asked before anything is trained."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tickets.manifest import Label, Name

_FORM = "lower-case letters, digits, '.', '_' and '-', at most 64 characters, a letter or digit first"


def check_names(domain: str, labels: Iterable[str], tiers: Iterable[str]) -> None:
    """Raises ValueError for the first domain, tier, ticket (``domain-tier``) or label that no manifest takes."""
    for what, name in (("domain", domain), *(("tier", tier) for tier in tiers)):
        if not _is(name, Name):
            raise ValueError(f"a {what} cannot be called {name!r}, for it becomes part of tickets' names: {_FORM}")
    for tier in tiers:
        if not _is(f"{domain}-{tier}", Name):
            raise ValueError(f"a ticket cannot be called '{domain}-{tier}': {_FORM}; shorten the domain or the tier")
    for label in labels:
        if not _is(label, Label):
            raise ValueError(f"a label has 1 to 256 characters; this one has {len(label)}: {label[:40]!r}")


def _is(value: str, kind: Any) -> bool:  # noqa: ANN401 - an annotated type
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
