"""Answers of the admin routes: a struct as JSON, with its version where it has one.

Owns the headers that all of them share: nothing of the control plane is kept by caches, because answers hold keys and
belong to whoever asked. Errors have their one form in `server.api`.
"""

import msgspec
from fastapi import Response

from server.admin.edits import etag


def answer_json(document: object, *, status: int = 200, version: int | None = None) -> Response:
    """``document`` as JSON, with ``version`` as its `ETag`."""
    headers = {"cache-control": "no-store"}
    if version is not None:
        headers["etag"] = etag(version)
    return Response(msgspec.json.encode(document), status, headers, media_type="application/json")
