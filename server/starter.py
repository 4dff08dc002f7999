"""The starter family: what `tombola up` serves when nobody has published anything yet.

Owns the reading of a starter folder (``family.json`` and the bundles it names), copying its
tickets into a registry, and the default table: one tenant ``demo`` that may ask every
starter family under three tiers. It leaves Redis to `routing.store` and the demo tenant's
key to `server.state`.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec

from routing.table import Domain, FamilyTicket, Fraction, Name, Table, Tenant, Tier
from tickets.bundle import Bundle, BundleError
from tickets.claims import quality
from tickets.registry import Registry

INDEX = "family.json"
TENANT = "demo"
DEADLINES_MS = {"accurate": 100.0, "balanced": 50.0, "fast": 25.0}
"""The deadline of each tier of the starter; a tier of another name gets the longest."""
PREFERRED_TIER = "balanced"


class StarterError(ValueError):
    """A starter folder that cannot be used; the message names the file and what is wrong."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One ticket of a starter family: its file in the folder, and the tier it was found for."""

    file: str
    tier: Name
    quality_floor: Fraction | None = None
    """The tier's floor; absent: the quality of the next cheaper ticket, rounded down (see `default_table`)."""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of ``family.json``."""

    families: dict[Name, list[Entry]]


def packaged() -> Path:
    """The folder that travels with the package."""
    return Path(str(resources.files("tickets.starter")))


def read_index(folder: Path) -> Index:
    """Read and check ``family.json``. Raises StarterError."""
    path = folder / INDEX
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except OSError as error:
        raise StarterError(f"cannot read the starter family: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise StarterError(f"{path} does not describe a starter family: {error}") from error
    for name, entries in index.families.items():
        if not entries:
            raise StarterError(f"{path}: family {name!r} names no ticket")
        for entry in entries:
            if Path(entry.file).name != entry.file:
                raise StarterError(f"{path}: {entry.file!r} must be the name of a file in the same folder")
    return index


def fill(registry: Registry, folder: Path) -> dict[str, list[tuple[Entry, FamilyTicket]]]:
    """Copy the starter's tickets into the registry where they are missing.

    Returns what routing needs to know of each, by family, from the most expensive to the
    cheapest. Raises StarterError for a folder that cannot be used, OSError where the registry
    cannot be written.
    """
    families: dict[str, list[tuple[Entry, FamilyTicket]]] = {}
    for name, entries in read_index(folder).families.items():
        tickets = [(entry, _keep(registry, folder / entry.file, entry)) for entry in entries]
        families[name] = sorted(tickets, key=lambda pair: -pair[1].service_ms)
    return families


def default_table(families: Mapping[str, Sequence[tuple[Entry, FamilyTicket]]], key_hash: str) -> Table:
    """The table of a fresh installation: tenant ``demo`` may ask every family, one domain each.

    Every tier gets the best ticket that makes its deadline (policy ``best``). Under load it may step
    down, at least to the ticket that is next cheaper than its own: its floor is that ticket's
    quality, rounded down to a whole percent, where ``family.json`` does not set one.
    """
    return Table(
        families={name: [ticket for _, ticket in pairs] for name, pairs in families.items()},
        tenants={
            TENANT: Tenant(
                key_hashes=[key_hash],
                domains={name: _domain(name, pairs) for name, pairs in families.items()},
            )
        },
    )


def example_text(bundle: Bundle) -> str:
    """A text that the ticket finds in scope, from the samples it carries; a greeting if it has none."""
    try:
        samples = msgspec.json.decode(bundle.members["samples.json"], type=_Samples)
    except (KeyError, msgspec.DecodeError):
        return "hello"
    known = (text for text, label in zip(samples.texts, samples.labels, strict=False) if label is not None)
    return next(known, "hello")


class _Samples(msgspec.Struct, frozen=True):
    texts: list[str] = []
    labels: list[str | None] = []


def _keep(registry: Registry, path: Path, entry: Entry) -> FamilyTicket:
    try:
        ticket = registry.put_file(path)
        evidence = registry.get(ticket).manifest.evidence
    except FileNotFoundError as error:
        raise StarterError(f"{path.parent / INDEX} names {entry.file}, which is not there") from error
    except BundleError as error:
        raise StarterError(f"{path} is not a usable ticket ({error.code}): {error}") from error
    if evidence.service_ms is None:
        raise StarterError(f"{path}: the ticket's evidence has no service_ms, which routing needs")
    return FamilyTicket(id=ticket, tier=entry.tier, quality=quality(evidence), service_ms=evidence.service_ms)


def _domain(family: str, pairs: Sequence[tuple[Entry, FamilyTicket]]) -> Domain:
    tiers: dict[str, Tier] = {}
    for i, (entry, ticket) in enumerate(pairs):
        next_ticket = pairs[min(i + 1, len(pairs) - 1)][1]
        floor = math.floor(min(ticket.quality, next_ticket.quality) * 100) / 100
        tiers.setdefault(
            entry.tier,
            Tier(
                deadline_ms=DEADLINES_MS.get(entry.tier, max(DEADLINES_MS.values())),
                quality_floor=floor if entry.quality_floor is None else entry.quality_floor,
            ),
        )
    default_tier = PREFERRED_TIER if PREFERRED_TIER in tiers else pairs[0][0].tier
    return Domain(family=family, default_tier=default_tier, tiers=tiers)
