"""A check of our own for schemathesis: errors have the one form, with a code that the operation's description names."""

import json
from typing import Any

import schemathesis


@schemathesis.check
def documented_code(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Fail for an error without `code`, and for a code that is not documented for this operation and status."""
    if response.status_code < 400 or case.method.upper() == "HEAD":
        return None
    body = json.loads(response.content)
    described = case.operation.definition.raw["responses"].get(str(response.status_code), {}).get("description", "")
    assert set(body) >= {"error", "code", "request_id"}, f"not the one form of an error: {body}"
    assert f"`{body['code']}`" in described, f"{response.status_code} {body['code']} is not documented here"
    return None
