"""MLServer: a custom runtime with adaptive batching, started by `mlserver start` in a folder of settings.

Run as a program it writes that folder and becomes `mlserver start`. With ``--threads`` the model runs beside
the event loop, else on it.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from loadtest.peers.model import Ticket

NAME = "ticket"


class TicketModel(MLModel):
    """One request is one or more texts; MLServer merges requests to batches."""

    async def load(self) -> bool:  # noqa: D102
        self._ticket = Ticket(os.environ["PEER_TICKET"])
        threads = int(os.environ["PEER_THREADS"])
        self._threads = ThreadPoolExecutor(threads) if threads else None
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:  # noqa: D102
        texts = StringCodec.decode_input(payload.inputs[0])
        if self._threads is None:
            answers = self._ticket.classify(texts)
        else:
            loop = asyncio.get_running_loop()
            answers = await loop.run_in_executor(self._threads, self._ticket.classify, texts)
        rows = [len(answers)]
        return InferenceResponse(
            model_name=NAME,
            outputs=[
                ResponseOutput(name="label", shape=rows, datatype="BYTES", data=[a["label"] for a in answers]),
                ResponseOutput(
                    name="probability", shape=rows, datatype="FP32", data=[a["probability"] for a in answers]
                ),
                ResponseOutput(name="in_scope", shape=rows, datatype="BOOL", data=[a["in_scope"] for a in answers]),
            ],
        )


def main() -> None:
    """Write the settings and become `mlserver start`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--other-ports", type=int, nargs=2, required=True, help="For gRPC and metrics.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--batch-time-s", type=float, default=0.001)
    parser.add_argument("--workers", type=int, default=0, help="Processes beside the server's; 0: in the server.")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mlserver", dir=os.environ.get("TMPDIR")))
    settings = {
        "debug": False, "host": "127.0.0.1", "http_port": args.port, "grpc_port": args.other_ports[0],
        "metrics_port": args.other_ports[1], "parallel_workers": args.workers, "gzip_enabled": False,
    }  # fmt: skip
    model = {
        "name": NAME, "implementation": "loadtest.peers.programs.mlserver_model.TicketModel",
        "max_batch_size": args.batch, "max_batch_time": args.batch_time_s,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ.update(PEER_TICKET=args.ticket, PEER_THREADS=str(args.threads))
    mlserver = Path(sys.executable).parent / "mlserver"
    os.chdir(folder)
    os.execv(mlserver, [str(mlserver), "start", str(folder)])  # noqa: S606 - no shell


if __name__ == "__main__":
    main()
