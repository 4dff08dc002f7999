"""The key routes: make, list, rotate and delete API keys, of a tenant and of the operators.

Owns their bodies, paths and events. A key is shown in the answer that makes it and nowhere else; events and lists
know it by its id. What may be done to keys belongs to `server.admin.keyring`, rights to `server.admin.rights`.
"""

import time
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import Meta

from routing.access import Caller
from routing.account import OPERATOR, Account, ApiKey, Role
from routing.change import Change
from routing.event import Event
from routing.store import Store
from server import openapi
from server.admin import bodies, edits, keyring, rights
from server.admin.answers import answer_json
from server.admin.edits import Standing
from server.admin.keyring import Ring
from server.admin.views import Deleted, KeyList, KeyMade, key_fields, key_list
from server.gateway import Gateway

Label = Annotated[str, Meta(max_length=64)]
Lifetime = Annotated[float, Meta(gt=0.0, le=10 * 366 * 86400.0, description="Seconds; absent: it does not expire.")]
Grace = Annotated[float, Meta(ge=0.0, le=30 * 86400.0, description="Seconds for which the old key still works.")]


class NewOperatorKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An operator's key to be made; it has no role, it may do everything but call."""

    label: Label = ""
    expires_in_s: Lifetime | None = None


class NewKey(NewOperatorKey, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tenant's key to be made."""

    role: Role


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a key is to be exchanged for another."""

    grace_s: Grace = 0.0


_KEY: dict[str, Any] = {
    "id": "5f3c0a9be412", "role": "register", "label": "CI", "created_at": 1_790_000_000.0,
    "expires_at": 1_797_776_000.0,
}  # fmt: skip
_MADE = _KEY | {"key": "tk_..."}
_OPERATOR = {"role": "operator"}
_READING = ("forbidden", "control_plane_unavailable")
_WRITING = ("bad_request", "conflict", "precondition_failed", *_READING)
_IF_MATCH = openapi.header("If-Match", "The version of the account that this is about. Absent: any.")


class Owner(Protocol):
    """Whose keys a path is about, once the caller is known to have the right to them; the account's name."""

    def __call__(self, request: Request) -> tuple[Caller, str]:
        """Raises ApiError."""


def add_key_routes(app: FastAPI, gateway: Gateway, store: Store) -> None:
    """Add every route about keys: those of tenants, and those of operators."""

    def of_tenant(request: Request) -> tuple[Caller, str]:
        name = request.path_params["tenant"]
        return rights.authorize(gateway, request, name, "admin"), name

    def of_operators(request: Request) -> tuple[Caller, str]:
        return rights.operator(gateway, request), OPERATOR

    _Keys("/v1/tenants/{tenant}/keys", "keys", gateway, store, of_tenant).add(app)
    _Keys("/v1/operators/keys", "operators", gateway, store, of_operators).add(app)


class _Keys:
    """The routes about the keys of one kind of account."""

    def __init__(self, path: str, tag: str, gateway: Gateway, store: Store, owner: Owner) -> None:
        self._path, self._tag = path, tag
        self._gateway, self._store, self._owner = gateway, store, owner
        self._is_operators = tag == "operators"
        self._unknown = () if self._is_operators else ("unknown_tenant",)

    def add(self, app: FastAPI) -> None:
        self._add_list(app)
        self._add_creation(app)
        self._add_rotation(app)
        self._add_deletion(app)

    def _add_list(self, app: FastAPI) -> None:
        shown = _KEY | (_OPERATOR if self._is_operators else {})
        answers = openapi.answer(KeyList, {"keys": [shown]}) | openapi.errors(*_READING, *self._unknown)

        @app.get(self._path, tags=[self._tag], responses=answers)
        async def list_keys(request: Request) -> Response:
            """The keys that have not expired, without the keys themselves. For admin keys and operators."""
            _, name = self._owner(request)
            ring = self._ring(await edits.standing(self._store), name)
            found = key_list(ring.keys(time.time()), is_operators=self._is_operators)
            return answer_json(found, version=ring.account.version)

    def _add_creation(self, app: FastAPI) -> None:
        kind: type[NewOperatorKey] = NewOperatorKey if self._is_operators else NewKey
        example = {"label": "CI", "expires_in_s": 7_776_000} | ({} if self._is_operators else {"role": "register"})
        answers = self._made(*_WRITING, "too_large", *self._unknown)
        taken = openapi.taking(_IF_MATCH, **openapi.body(kind, example, is_required=not self._is_operators))

        @app.post(self._path, tags=[self._tag], status_code=201, responses=answers, openapi_extra=taken)
        async def create_key(request: Request) -> Response:
            """Make a key. It is shown in this answer and never again. For admin keys and operators."""
            caller, name = self._owner(request)
            wanted = await bodies.read(self._gateway, request, kind)
            role: Role = wanted.role if isinstance(wanted, NewKey) else "admin"
            now = time.time()

            def act(ring: Ring) -> tuple[Ring, str, ApiKey]:
                return keyring.add(ring, role, now, label=wanted.label, expires_in_s=wanted.expires_in_s)

            return await self._make(request, caller, name, "key.create", act)

    def _add_rotation(self, app: FastAPI) -> None:
        answers = self._made(*_WRITING, "too_large", "unknown_key", *self._unknown)
        taken = openapi.taking(_IF_MATCH, **openapi.body(Rotation, {"grace_s": 3600}, is_required=False))
        path = self._path + "/{key_id}/rotate"

        @app.post(path, tags=[self._tag], status_code=201, responses=answers, openapi_extra=taken)
        async def rotate_key(request: Request) -> Response:
            """Make another key with the same role; this one goes, at once or after a grace time."""
            caller, name = self._owner(request)
            wanted = await bodies.read(self._gateway, request, Rotation)
            key_id, now = request.path_params["key_id"], time.time()

            def act(ring: Ring) -> tuple[Ring, str, ApiKey]:
                return keyring.rotate(ring, key_id, now, grace_s=wanted.grace_s)

            return await self._make(
                request, caller, name, "key.rotate", act,
                before={"key": key_id}, facts={"grace_s": wanted.grace_s},
            )  # fmt: skip

    def _add_deletion(self, app: FastAPI) -> None:
        answers = openapi.answer(Deleted, {"deleted": _KEY["id"]}) | openapi.errors(
            *_WRITING, "unknown_key", *self._unknown
        )
        path = self._path + "/{key_id}"

        @app.delete(path, tags=[self._tag], responses=answers, openapi_extra=openapi.taking(_IF_MATCH))
        async def delete_key(request: Request) -> Response:
            """Delete a key: it is unknown everywhere as soon as the gateways have heard of it, within a second."""
            caller, name = self._owner(request)
            key_id, allowed, now = request.path_params["key_id"], edits.if_match(request), time.time()
            may_remove_last = caller.tenant is None and not self._is_operators

            def make(standing: Standing) -> Change:
                ring = self._ring(standing, name)
                edits.check_match(allowed, ring.account.version)
                left, gone = keyring.remove(ring, key_id, now, may_remove_last=may_remove_last)
                before = {"role": self._role(gone), "label": gone.label}
                return _change(standing, left, _event("key.delete", caller, name, gone.id, before=before))

            done = await edits.commit(self._store, caller, make)
            return answer_json(Deleted(deleted=done.event.subject))

    async def _make(
        self, request: Request, caller: Caller, name: str, action: str,
        act: Callable[[Ring], tuple[Ring, str, ApiKey]], *, before: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Response:  # fmt: skip
        """Commit what ``act`` makes of the keys, and show the new one."""
        allowed = edits.if_match(request)
        made: list[tuple[str, ApiKey]] = []

        def make(standing: Standing) -> Change:
            ring = self._ring(standing, name)
            edits.check_match(allowed, ring.account.version)
            new, key, kept = act(ring)
            made.append((key, kept))
            after = {"role": self._role(kept), "label": kept.label, "expires_at": kept.expires_at, **(facts or {})}
            return _change(standing, new, _event(action, caller, name, kept.id, before=before, after=after))

        done = await edits.commit(self._store, caller, make)
        key, kept = made[-1]
        view = KeyMade(**key_fields(kept, is_operators=self._is_operators), key=key)
        return answer_json(view, status=201, version=done.accounts[0].version)

    def _ring(self, standing: Standing, name: str) -> Ring:
        """The keys of an account that stands. Raises UnknownTenant, on a tenant's path for the operators' one too."""
        if self._is_operators:
            return Ring(account=standing.accounts.get(OPERATOR) or Account(name=OPERATOR))
        return Ring(account=standing.account(name), row=standing.table.tenants.get(name))

    def _role(self, key: ApiKey) -> str:
        return "operator" if self._is_operators else key.role

    def _made(self, *codes: str) -> openapi.Responses:
        example = _MADE | (_OPERATOR if self._is_operators else {})
        return openapi.answer(
            KeyMade, example, status=201, description="Made; the key is shown this once"
        ) | openapi.errors(*codes)


def _change(standing: Standing, ring: Ring, event: Event) -> Change:
    """The change that puts a ring in the place of what stands."""
    name, table = ring.account.name, None
    if ring.row is not None and ring.row != standing.table.tenants.get(name):
        tenants = {**standing.table.tenants, name: ring.row}
        table = msgspec.structs.replace(standing.table, tenants=tenants)
    return Change(event=event, accounts=(ring.account,), table=table)


def _event(
    action: str, caller: Caller, name: str, key_id: str, *, before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> Event:  # fmt: skip
    tenant = None if name == OPERATOR else name
    return Event(
        action=action, actor=caller.actor, tenant=tenant, subject=key_id, before=before or {}, after=after or {}
    )
