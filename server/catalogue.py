"""What the gateway knows about the models it names: the manifests of the table's tickets.

Owns the manifests, read once from the registry when a table arrives, and the answer to
"does this tenant have this model, and what does it take?". A model is a domain of a
tenant, a version is a ticket of its family. It says nothing about which ticket answers.
"""

import asyncio
import re

import msgspec
import structlog

from routing.table import Domain, FamilyTicket, Table
from server import oip
from server.classify import TASK as TEXT_CLASSIFICATION
from server.errors import NotReady, UnknownDomain, UnknownVersion
from tickets.bundle import BundleError
from tickets.manifest import Manifest
from tickets.registry import Registry, TicketMissing

VERSION_DIGITS = 12
"""A version is shown as so many digits of the ticket's id; at least 8 are accepted."""
_VERSION = re.compile(r"[0-9a-f]{8,64}")
MAX_ECHO = 64
MAX_KEPT = 4096

log = structlog.get_logger()


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One domain of one tenant, with a manifest that tells its inputs and outputs."""

    domain: Domain
    family: list[FamilyTicket]
    manifest: Manifest
    oip: oip.Model


class Catalogue:
    """The manifests of the table's tickets."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._manifests: dict[str, Manifest] = {}
        self._models: dict[tuple[str, str], Model] = {}
        self.missing: frozenset[str] = frozenset()
        """Tickets of the table that the registry cannot give."""

    async def read(self, table: Table) -> None:
        """Read the manifests that ``table`` needs and are not known yet.

        Earlier tables' manifests stay (within bounds): requests that began under them are still being answered.
        """
        wanted = {ticket.id for family in table.families.values() for ticket in family}
        found = await asyncio.to_thread(self._read, sorted(wanted - self._manifests.keys()))
        self._manifests |= found
        if len(self._manifests) > MAX_KEPT:
            self._manifests = {id_: m for id_, m in self._manifests.items() if id_ in wanted}
        self._models = {}
        missing = frozenset(wanted - self._manifests.keys())
        if missing != self.missing:
            log.warning("tickets_missing", tickets=sorted(id_[:VERSION_DIGITS] for id_ in missing))
        self.missing = missing

    def manifest(self, ticket: str) -> Manifest | None:
        """A ticket's manifest; None where the registry does not have it."""
        return self._manifests.get(ticket)

    def parent(self, ticket: str) -> str | None:
        """What a ticket was made from: the level before it, else its dense parent."""
        manifest = self._manifests.get(ticket)
        return None if manifest is None else manifest.lineage.parent or manifest.lineage.dense_parent

    def model(self, table: Table | None, tenant: str, name: str) -> Model:
        """The tenant's model. Raises UnknownDomain, whoever else may have it, and NotReady."""
        if table is None:
            raise NotReady("no routing table has been published yet", retry_after_s=1.0)
        known = self._models.get((tenant, name))
        if known is not None:
            return known
        row = table.tenants.get(tenant)
        domain = row.domains.get(name) if row is not None else None
        if domain is None:
            raise UnknownDomain(f"Request for unknown model: '{name[:MAX_ECHO]}' is not found")
        family = table.families.get(domain.family, [])
        manifest = next((m for ticket in family if (m := self._manifests.get(ticket.id)) is not None), None)
        if manifest is None:
            raise NotReady(f"the tickets of '{name}' are not in this gateway's registry yet", retry_after_s=1.0)
        model = Model(domain=domain, family=family, manifest=manifest, oip=_protocol_view(name, manifest))
        self._models[tenant, name] = model
        return model

    def version(self, model: Model, version: str) -> FamilyTicket:
        """The ticket that a version names by its first 8 or more digits. Raises UnknownVersion."""
        if _VERSION.fullmatch(version):
            found = [ticket for ticket in model.family if ticket.id.startswith(version)]
            if len(found) == 1:
                return found[0]
        raise UnknownVersion(
            f"Request for unknown model: '{model.oip.name}' version '{version[:MAX_ECHO]}' is not found"
        )

    def _read(self, ids: list[str]) -> dict[str, Manifest]:
        found: dict[str, Manifest] = {}
        for id_ in ids:
            try:
                found[id_] = self._registry.get(id_).manifest
            except (TicketMissing, BundleError, OSError) as error:
                log.debug("ticket_unreadable", ticket=id_, error=str(error))
        return found


def _protocol_view(name: str, manifest: Manifest) -> oip.Model:
    return oip.Model(
        name=name, inputs=manifest.inputs, outputs=manifest.outputs, is_text=manifest.task == TEXT_CLASSIFICATION
    )
