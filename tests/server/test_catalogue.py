"""What the gateway knows of models: a tenant's own, from manifests it has read."""

from pathlib import Path

import pytest

from server.catalogue import Catalogue
from server.errors import NotReady, UnknownDomain, UnknownVersion
from tests.server.gateways import tiny_table
from tests.tiny import tiny_bundle
from tickets.registry import Registry


@pytest.fixture
def tickets(registry: Registry) -> tuple[str, str]:
    return registry.put(tiny_bundle("accurate", 0.95)), registry.put(tiny_bundle("fast", 0.9))


async def test_a_model_takes_what_its_tickets_manifest_says(registry: Registry, tickets: tuple[str, str]) -> None:
    catalogue, table = Catalogue(registry), tiny_table(*tickets)
    await catalogue.read(table)
    model = catalogue.model(table, "acme", "home")
    assert [spec.name for spec in model.oip.inputs] == ["text"]
    assert model.oip.is_text
    assert catalogue.missing == frozenset()


async def test_another_tenants_model_is_unknown_in_the_same_words(registry: Registry, tickets: tuple[str, str]) -> None:
    catalogue, table = Catalogue(registry), tiny_table(*tickets)
    await catalogue.read(table)
    catalogue.model(table, "rival", "secret")
    texts = []
    for name in ("secret", "nobody"):
        with pytest.raises(UnknownDomain) as unknown:
            catalogue.model(table, "acme", name)
        texts.append(unknown.value.message.replace(name, "?"))
    assert texts[0] == texts[1]


async def test_a_version_is_named_by_eight_digits_or_more(registry: Registry, tickets: tuple[str, str]) -> None:
    catalogue, table = Catalogue(registry), tiny_table(*tickets)
    await catalogue.read(table)
    model = catalogue.model(table, "acme", "home")
    for length in (8, 12, 64):
        assert catalogue.version(model, tickets[0][:length]).id == tickets[0]
    for wrong in (tickets[0][:7], tickets[0] + "0", tickets[0].upper(), "", "0" * 64):
        with pytest.raises(UnknownVersion):
            catalogue.version(model, wrong)


async def test_missing_tickets_are_named_and_found_when_they_come(registry: Registry, tmp_path: Path) -> None:
    later = Registry(tmp_path / "later")
    table = tiny_table(later.put(tiny_bundle("accurate", 0.95)), later.put(tiny_bundle("fast", 0.9)))
    catalogue = Catalogue(registry)
    await catalogue.read(table)
    assert len(catalogue.missing) == 2
    with pytest.raises(NotReady):
        catalogue.model(table, "acme", "home")
    registry.put_file(later.path(later.ids()[0]))
    await catalogue.read(table)
    assert len(catalogue.missing) == 1
    assert catalogue.model(table, "acme", "home")


async def test_manifests_of_an_earlier_table_stay_for_requests_that_began_under_it(
    registry: Registry, tickets: tuple[str, str]
) -> None:
    catalogue = Catalogue(registry)
    await catalogue.read(tiny_table(*tickets))
    other = registry.put(tiny_bundle("other", 0.8))
    await catalogue.read(tiny_table(tickets[0], other))
    assert catalogue.manifest(tickets[1]) is not None
    assert catalogue.manifest(other) is not None


async def test_a_damaged_ticket_is_missing(registry: Registry, tickets: tuple[str, str]) -> None:
    path = registry.path(tickets[1])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    catalogue = Catalogue(registry)
    await catalogue.read(tiny_table(*tickets))
    assert catalogue.missing == {tickets[1]}
