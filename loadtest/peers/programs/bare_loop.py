"""The bare loop: tokenize and run in batches of 16, no server at all. What one core gives at best.

Prints one JSON object: texts per second padded plainly, and with rows grouped by length as the servers do.
"""

import argparse
import json
import sys
import time

from loadtest.peers.model import Ticket
from loadtest.sentences import sentences_for

BATCH_TEXTS = 16
BATCHES = 15


def main() -> None:
    """Measure for the seconds asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ticket", required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--answers", action="store_true", help="Print what the ticket says of each text instead.")
    args = parser.parse_args()
    texts = sentences_for(args.domain)
    if args.answers:
        # One by one, in the plainest way: what every server's answers are compared with.
        ticket = Ticket(args.ticket, is_grouped=False)
        sys.stdout.write(json.dumps({text: ticket.classify([text])[0] for text in texts}) + "\n")
        return
    batches = [[texts[(BATCH_TEXTS * b + i) % len(texts)] for i in range(BATCH_TEXTS)] for b in range(BATCHES)]
    found = {
        name: _rate(Ticket(args.ticket, is_grouped=is_grouped), batches, args.seconds)
        for name, is_grouped in (("plain", False), ("grouped", True))
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _rate(ticket: Ticket, batches: list[list[str]], seconds: float) -> dict[str, float]:
    for batch in batches:
        ticket.classify(batch)
    start, cpu, done = time.perf_counter(), time.process_time(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        ticket.classify(batches[done % len(batches)])
        done += 1
    per_s = done * BATCH_TEXTS / elapsed
    return {"texts_per_s": per_s, "cpu_s_per_1000": 1000 * (time.process_time() - cpu) / (done * BATCH_TEXTS)}


if __name__ == "__main__":
    main()
