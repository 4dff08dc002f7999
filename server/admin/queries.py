"""Query parameters of the admin routes: read one, or say which one is wrong.

Owns their types and bounds, so that a badly typed one is always a 400 that names it. What a parameter is for is told
in each route's description; parameters that no route knows are ignored.
"""

from fastapi import Request

from server.errors import BadRequest

MAX_TEXT = 200
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def text(request: Request, name: str) -> str | None:
    """The parameter as it is, None where it is absent. Raises BadRequest, for an empty one too."""
    values = request.query_params.getlist(name)
    if len(values) > 1:
        raise BadRequest(f"{name} is given {len(values)} times; give it once")
    if values and len(values[0]) > MAX_TEXT:
        raise BadRequest(f"{name} has more than {MAX_TEXT} characters")
    if values == [""]:
        raise BadRequest(f"{name} is empty; leave it out where you mean none")
    return values[0] if values else None


def integer(request: Request, name: str, low: int, high: int) -> int | None:
    """The parameter as a whole number between ``low`` and ``high``; None where it is absent. Raises BadRequest."""
    value = text(request, name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise BadRequest(f"{name} must be a whole number from {low} to {high}")
    return int(value)


def flag(request: Request, name: str) -> bool:
    """Whether the parameter is ``true`` (or ``1``); absent, ``false`` and ``0`` are no. Raises BadRequest."""
    value = text(request, name)
    if value is None:
        return False
    if value.lower() not in _FLAGS:
        raise BadRequest(f"{name} must be true or false")
    return _FLAGS[value.lower()]
