"""A cascade as callers meet it: every test text sent over HTTP to a domain with the policy ``cascade``.

Checks that what the server does is what `tombola cascade` promised: the accuracy, and the share that the
small ticket answered, come from the responses alone.
"""

import http.client
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.up import DOMAIN, Customer, Serving, serving
from routing.table import Cascade
from tickets.cascade import Outcomes, measure
from tickets.factory.cascade import Pair
from tickets.factory.data import Examples

DEADLINE_MS = 5000.0
"""Far off: what is checked here are answers, not times."""
TEXTS_PER_REQUEST = 16
WARM_UP_TEXTS = 64


@dataclass(frozen=True, slots=True)
class Served:
    """As `tickets.cascade.Measured`, from the responses; ``because``: one response's own words."""

    accuracy: float
    in_scope_right: float | None
    out_of_scope_found: float | None
    answered_by_small: float
    because: str


def ask_cascade(
    pair: Pair, threshold: float, texts: Examples, labels: Sequence[str], in_scope_share: float
) -> Served:  # fmt: skip
    """Serve ``pair`` as a cascade and ask it all ``texts``, whose targets are indices of ``labels``.

    Raises RuntimeError for anything but an answer.
    """
    small, large = pair.bundles
    rule = Cascade(small=small.id, large=large.id, threshold=threshold, accuracy=0.0)
    customer = Customer([large, small], DEADLINE_MS, policy="cascade", domain={"cascade": rule})
    with tempfile.TemporaryDirectory() as name, serving(Path(name), {"caller": customer}) as tombola:
        _ask(tombola, texts.texts[:WARM_UP_TEXTS])  # loads the large ticket
        answers = _ask(tombola, texts.texts)
    found = np.asarray([labels.index(a["label"]) if a["in_scope"] else len(labels) for a in answers], np.int64)
    right = found == texts.targets
    by_small = np.asarray([a["ticket"] == small.id for a in answers], np.float32)
    outcomes = Outcomes(by_small, right, right, np.asarray(texts.kinds) == "in")
    measured = measure(outcomes, 1.0, in_scope_share)
    return Served(
        measured.accuracy, measured.in_scope_right, measured.out_of_scope_found, measured.answered_by_small,
        next((a["because"] for a in answers if a["ticket"] == large.id), ""),
    )  # fmt: skip


def _ask(tombola: Serving, texts: tuple[str, ...]) -> list[dict[str, Any]]:
    """One result per text, with the ticket that answered it and the response's reason."""
    address = urlsplit(tombola.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    headers = {"Authorization": f"Bearer {tombola.keys['caller']}", "Content-Type": "application/json"}
    out: list[dict[str, Any]] = []
    try:
        for start in range(0, len(texts), TEXTS_PER_REQUEST):
            body = {"domain": DOMAIN, "text": texts[start : start + TEXTS_PER_REQUEST]}
            connection.request("POST", "/v1/classify", json.dumps(body), headers)
            response = connection.getresponse()
            document = json.loads(response.read())
            if response.status != 200:
                raise RuntimeError(f"a cascade was answered {response.status}: {document}")
            for result in document["results"]:
                out.append({"ticket": document["ticket"], "because": document["because"]} | result)
    finally:
        connection.close()
    return out
