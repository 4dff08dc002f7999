"""Recovery: what a gateway kept on its disk, published again over a Redis that has lost its data.

Owns reading a gateway's cache files and what may be overwritten by them. Gateways never do this: they keep serving from
what they have, and an operator decides whose files are the newest (`tombola route recover`); `tombola up` does it with
its own state directory, over a Redis that holds nothing at all.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from routing.account import OPERATOR, Account
from routing.actor import shell_actor
from routing.change import Change, Committed
from routing.document import DocumentError, load_json
from routing.event import Event
from routing.store import Store
from routing.table import Table

_accounts = msgspec.json.Decoder(dict[str, Account])


class RecoveryError(ValueError):
    """Nothing is recovered; the message says why and what to do."""


PATTERN = "table-*.json"
"""The tables that gateways keep in the state directory of `tombola up`; the accounts stand beside them."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway had kept: the table, and the accounts by name."""

    table: Table
    accounts: Mapping[str, Account] = {}


def read_kept(table: bytes, accounts: bytes | None) -> Kept:
    """The content of ``table-<gateway>.json`` and of ``table-<gateway>.json.accounts`` beside it.

    Raises RecoveryError for what does not read whole: half a list of keys must not become all of them.
    """
    try:
        kept = Kept(table=load_json(table), accounts=_accounts.decode(accounts) if accounts is not None else {})
    except DocumentError as error:
        raise RecoveryError(f"the table does not read: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RecoveryError(f"the accounts do not read: {error}") from error
    for name, account in kept.accounts.items():
        if account.name != name:
            raise RecoveryError(f"the accounts do not read: {account.name!r} stands under {name!r}")
    return kept


def newest(place: Path) -> tuple[Path, Kept, list[str]]:
    """Of what gateways kept in ``place`` (a folder, or one file), that with the highest version; and what was passed
    over, in words. Raises RecoveryError where nothing can be taken.
    """
    files = [place] if place.is_file() else sorted(place.glob(PATTERN))
    found: list[tuple[int, float, Path, Kept]] = []
    problems = []
    for file in files:
        try:
            accounts = file.with_name(f"{file.name}.accounts")
            kept = read_kept(file.read_bytes(), accounts.read_bytes() if accounts.exists() else None)
            found.append((kept.table.version, file.stat().st_mtime, file, kept))
        except (OSError, RecoveryError) as error:
            problems.append(f"  {file}: {error}")
    if not found:
        said = "\n".join(problems) or f"  there is no {PATTERN} in it: is it the state directory of `tombola up`?"
        raise RecoveryError(f"nothing in {place} can be recovered:\n{said}")
    _, _, file, kept = max(found, key=lambda item: item[:2])
    return file, kept, problems


async def recover(store: Store, kept: Kept, *, is_forced: bool = False, actor: str | None = None) -> Committed:
    """Publish ``kept`` in one step; the table's version is then greater than any that a gateway has seen.

    Over a store that has a table or tenants' accounts it is refused, unless ``is_forced``: then these are replaced,
    and accounts that were not kept stay. An account whose version is not below that of the one kept stays too: a
    revoked key must not come back. Raises RecoveryError, VersionConflict where somebody else changed the store
    meanwhile, StoreUnavailable, StoreCorrupt.
    """
    await store.prepare()
    standing, accounts = await store.load_table(), await store.load_accounts()
    tenants = accounts.keys() - {OPERATOR}  # `tombola up` gives an empty store its operator again
    if (standing is not None or tenants) and not is_forced:
        what = (
            f"a table (version {standing.version})" if standing is not None else f"accounts of {len(tenants)} tenants"
        )
        raise RecoveryError(f"Redis is not empty: it holds {what}. Look at it first, or say --force to replace it")
    base = standing.version if standing is not None else 0
    written = [account for account in kept.accounts.values() if account.version > _version(accounts, account.name)]
    event = Event(
        action="store.recover", actor=actor or shell_actor(), subject="table",
        before={"version": base, "accounts": len(accounts)},
        after={"kept_version": kept.table.version, "accounts": len(written)},
    )  # fmt: skip
    change = Change(
        event=event,
        table=msgspec.structs.replace(kept.table, version=base),
        accounts=tuple(
            msgspec.structs.replace(account, version=_version(accounts, account.name)) for account in written
        ),
    )
    return await store.commit(change, least_version=kept.table.version + 1)


def _version(accounts: Mapping[str, Account], name: str) -> int:
    return accounts[name].version if name in accounts else 0
