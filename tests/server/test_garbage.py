"""Start-up's objects leave the garbage collector's sight."""

import subprocess
import sys


def test_settling_freezes_what_is_alive_and_still_collects_what_comes_later() -> None:
    """Thousands of objects are frozen; a cycle made afterwards is found as ever."""
    script = """
import gc, weakref
import fastapi
from server.garbage import settle_garbage
settle_garbage()
assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()
assert gc.isenabled()
class Node: pass
node = Node(); node.self = node; gone = weakref.ref(node); del node
gc.collect()
assert gone() is None
"""
    subprocess.run([sys.executable, "-c", script], check=True)
