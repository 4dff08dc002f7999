"""A model of one's own, all the way: from a TOML file beside an ONNX file to answers over HTTP."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e.installation import WAIT_S, Installation, Start, make_starter, patient
from tests.models import exported, mlp, words
from tests.tiny import tiny_tokenizer
from tickets.imported import pack_model

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.timeout(180)]
PEOPLE = {
    "ages": {"shape": [2, 1], "datatype": "FP32", "data": [[3.0], [0.0]]},
    "incomes": {"shape": [2, 2], "datatype": "FP32", "data": [[0.5, 0.5], [1.0, 1.0]]},
}


def own_starter(folder: Path) -> Path:
    """The tiny starter, and beside it three models that were exported elsewhere."""
    starter = make_starter(folder)
    (folder / "tokenizer.json").write_bytes(tiny_tokenizer())
    tomls = {
        "people": ("", mlp()),
        "words": ('[[samples]]\nword = ["two"]\n', words()),
        "bert": (
            'tokenizer = "tokenizer.json"\nlabels = ["weather", "music", "lights"]\nout_of_scope = "class"\n'
            'threshold = 0.5\nsamples = ["rain sun"]\n',
            exported(),
        ),
    }
    index = json.loads((starter / "family.json").read_text())
    for name, (more, model) in tomls.items():
        head = f'name = "{name}"\ndomain = "{name}"\ntier = "fast"\nlicence = "MIT"\nquality = 0.9\nservice_ms = 1.0\n'
        (folder / f"{name}.toml").write_text(head + more)
        (folder / f"{name}.onnx").write_bytes(model)
        (folder / f"{name}.ticket").write_bytes(pack_model(folder / f"{name}.toml"))
        index["families"][name] = [{"file": f"{name}.ticket", "tier": "fast"}]
    (starter / "family.json").write_text(json.dumps(index))
    return starter


async def running(start: Start, folder: Path) -> Installation:
    up = start("--starter", str(own_starter(folder / "own"))).wait_until_up()
    await up.uses(await up.publish(patient))
    return up


async def inferred(client: httpx.AsyncClient, model: str, body: dict[str, Any]) -> httpx.Response:
    """An answer, asked for again where the only worker was away for a moment: a busy machine can starve it."""
    async with asyncio.timeout(WAIT_S):
        while True:
            answer = await client.post(f"/v2/models/{model}/infer", json=body)
            if "retry-after" not in answer.headers:
                return answer
            await asyncio.sleep(float(answer.headers["retry-after"]))


def infer(inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": name, **tensor} for name, tensor in inputs.items()], **more}


async def test_models_of_ones_own_answer_over_http(start: Start, folder: Path) -> None:
    """Tensors as JSON and as bytes, texts in and out, and an exported encoder through the short form."""
    up = await running(start, folder)
    headers = {"Authorization": f"Bearer {up.key}"}
    async with httpx.AsyncClient(base_url=up.api, headers=headers, timeout=WAIT_S) as client:
        model = (await client.get("/v2/models/people")).json()
        assert [(t["name"], t["datatype"], t["shape"]) for t in model["outputs"]] == [
            ("class", "INT64", [-1]), ("scores", "FP32", [-1, 2]),
        ]  # fmt: skip

        answer = await client.post("/v2/models/people/infer", json=infer(PEOPLE))
        assert answer.status_code == 200, answer.text
        outputs = {o["name"]: (o["shape"], o["data"]) for o in answer.json()["outputs"]}
        assert outputs == {"class": ([2], [0, 1]), "scores": ([2, 2], [2.0, 1.0, 0.0, 2.0])}

        together = await asyncio.gather(*(inferred(client, "people", person(k)) for k in range(20)))
        assert [reply.text for reply in together if reply.status_code != 200] == []
        assert [reply.json()["outputs"][0]["data"] for reply in together] == [[k, 2.0 * k] for k in range(20)]

        answer = await client.post("/v2/models/words/infer", json=infer(
            {"word": {"shape": [2], "datatype": "BYTES", "data": ["two", "nine"]}}))  # fmt: skip
        outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
        assert outputs == {"number": [2, -1], "loud": ["TWO", "NINE"]}

        answer = await client.post("/v1/classify", json={"domain": "bert", "text": ["song song", "a tax"]})
        sure, strange = answer.json()["results"]
        assert (sure["label"], sure["in_scope"], strange["in_scope"]) == ("music", True, False)

        refused = await client.post("/v1/classify", json={"domain": "people", "text": "rain"})
        assert refused.status_code == 400
        assert "/v2/models" in refused.json()["error"]

        for bad in ({"ages": PEOPLE["ages"]}, PEOPLE | {"ages": {"shape": [1, 1], "datatype": "FP32", "data": [1]}}):
            refused = await client.post("/v2/models/people/infer", json=infer(bad))
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_request"), refused.text


def person(k: int) -> dict[str, Any]:
    """The scores of someone aged k + 1 who earns 2 k."""
    return infer(
        {
            "ages": {"shape": [1, 1], "datatype": "FP32", "data": [k + 1.0]},
            "incomes": {"shape": [1, 2], "datatype": "FP32", "data": [k, k]},
        },
        outputs=[{"name": "scores"}],
    )


async def test_tritonclient_asks_with_bytes(start: Start, folder: Path) -> None:
    triton = pytest.importorskip("tritonclient.http")
    up = await running(start, folder)
    client = triton.InferenceServerClient(up.api.removeprefix("http://"))
    inputs = []
    for name, tensor in PEOPLE.items():
        array = np.array(tensor["data"], np.float32)
        inputs.append(triton.InferInput(name, list(array.shape), "FP32"))
        inputs[-1].set_data_from_numpy(array, binary_data=True)
    wanted = [triton.InferRequestedOutput(name, binary_data=True) for name in ("scores", "class")]
    answer = await asyncio.to_thread(
        client.infer, "people", inputs, outputs=wanted, headers={"Authorization": f"Bearer {up.key}"}
    )
    assert answer.as_numpy("scores").tolist() == [[2.0, 1.0], [0.0, 2.0]]
    assert answer.as_numpy("class").tolist() == [0, 1]
    client.close()
