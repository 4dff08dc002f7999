"""How systems are asked and read: the bytes of each form, and which replies are good."""

import json

import pytest

from loadtest.connection import Reply
from loadtest.peers import dialects
from loadtest.peers.dialects import Answer, Dialect, PeerWorkload

ANSWER = Answer(label="balance", probability=0.75, in_scope=True)
FIELDS = {"label": "balance", "probability": 0.75, "in_scope": True}
OIP_OUTPUTS = [{"name": name, "shape": [1], "datatype": "X", "data": [value]} for name, value in FIELDS.items()]
FORMS = {
    "plain": (dialects.plain("/classify"), {"text": "hi"}, FIELDS),
    "listed": (dialects.listed("/classify"), {"texts": ["hi"]}, [FIELDS]),
    "oip": (
        dialects.OIP,
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]},
        {"model_name": "ticket", "outputs": OIP_OUTPUTS},
    ),
    "tombola": (
        dialects.tombola("banking", "accurate", 25.0),
        {"domain": "banking", "tier": "accurate", "deadline_ms": 25.0, "text": "hi"},
        {"results": [FIELDS], "request_id": "1"},
    ),
}


def reply(status: int, document: object) -> Reply:
    return Reply(status, json.dumps(document).encode(), "", 0.0, 0.01)


@pytest.mark.parametrize(("dialect", "asked", "said"), FORMS.values(), ids=FORMS)
def test_a_form_asks_for_one_text_and_reads_its_answer(dialect: Dialect, asked: object, said: object) -> None:
    workload = PeerWorkload(dialect, {"hi": ANSWER}, host="h")
    (request,) = workload.all()
    head, _, body = request.payload.partition(b"\r\n\r\n")
    assert head.startswith(b"POST " + dialect.path.encode() + b" HTTP/1.1\r\nHost: h\r\n")
    assert b"Content-Length: %d" % len(body) in head
    assert json.loads(body) == asked
    assert dialect.read(reply(200, said).body) == ANSWER
    assert workload.read(request, reply(200, said))[0] == ""


def test_an_answer_with_another_label_is_wrong() -> None:
    workload = PeerWorkload(dialects.plain("/"), {"hi": ANSWER}, host="h")
    code = workload.read(workload.all()[0], reply(200, FIELDS | {"label": "other"}))[0]
    assert code == "wrong_answer"


def test_where_the_system_may_choose_who_answers_any_label_is_good_and_the_ticket_is_kept() -> None:
    workload = PeerWorkload(dialects.tombola("b", "", 25), {"hi": ANSWER}, host="h", key="tk_1", is_checked=False)
    assert b"Authorization: Bearer tk_1\r\n" in workload.all()[0].payload
    said = {"results": [FIELDS | {"label": "other"}], "ticket": "ab"}
    assert workload.read(workload.all()[0], reply(200, said))[:2] == ("", "ab")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(503, {"error": "full", "code": "overloaded"}), "overloaded"),
        (reply(503, {"detail": "full"}), "http_503"),
        (reply(429, ["?"]), "http_429"),
        (reply(200, {"label": "balance"}), "bad_body"),
        (Reply(0, b"", "timeout", 0.0, 1.0), "timeout"),
    ],
)
def test_what_is_no_answer_has_a_name(answer: Reply, code: str) -> None:
    workload = PeerWorkload(dialects.plain("/"), {"hi": ANSWER}, host="h")
    assert workload.read(workload.all()[0], answer)[0] == code


def test_an_empty_inference_is_no_answer() -> None:
    workload = PeerWorkload(dialects.OIP, {"hi": ANSWER}, host="h")
    empty = {"outputs": [{"name": "label", "data": []}]}
    assert workload.read(workload.all()[0], reply(200, empty))[0] == "bad_body"
    assert workload.read(workload.all()[0], reply(200, {"outputs": []}))[0] == "bad_body"


def test_answers_agree_but_for_rounding() -> None:
    assert ANSWER.agrees(Answer(label="balance", probability=0.75003, in_scope=True))
    assert not ANSWER.agrees(Answer(label="balance", probability=0.752, in_scope=True))
    assert not ANSWER.agrees(Answer(label="balance", probability=0.75, in_scope=False))


def test_the_same_seed_asks_for_the_same_texts() -> None:
    workload = PeerWorkload(dialects.plain("/"), dict.fromkeys("abcdefgh", ANSWER), host="h")

    def first(seed: str) -> list[bytes]:
        return [request.payload for request, _ in zip(workload.requests(seed), range(20), strict=False)]

    assert first("1") == first("1") != first("2")
