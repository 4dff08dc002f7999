"""A small server like the peers' programs, for the benchmark's own tests: ``python -m ... PORT ANSWERS``.

It speaks the plain dialect (`loadtest.peers.dialects.plain`) and answers each text from a JSON file.
"""

import asyncio
import json
import sys
from pathlib import Path

from tests.loadtest.stub import Seen, response


async def main(port: int, answers: dict[str, object]) -> None:
    """Answer until killed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
                seen = Seen(head, await reader.readexactly(length), 0)
                writer.write(response(200, answers[json.loads(seen.body)["text"]]))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())))
