"""The registry: whatever dies or fills up, who looks sees whole tickets or none."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tiny import tiny_bundle, tiny_manifest
from tickets.bundle import BundleError
from tickets.registry import LEFTOVER_AGE_S, Registry, TicketMissing

ROOT = Path(__file__).parents[2]

PUT_FOR_EVER = """
import random, sys
from pathlib import Path
from tickets.bundle import pack, read
from tickets.registry import Registry
registry, manifest = Registry(Path(sys.argv[1])), read(sys.argv[2]).manifest
rng = random.Random(int(sys.argv[3]))
while True:
    members = {"model.onnx": rng.randbytes(4 << 20), "tokenizer.json": b"{}"}
    print(registry.put(pack(manifest, members)), flush=True)
"""

PUT_UNDER_A_FILE_LIMIT = """
import resource, sys
from pathlib import Path
from tickets.registry import Registry
data = Path(sys.argv[2]).read_bytes()
registry = Registry(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    registry.put(data)
except OSError as error:
    print("OSError", error.errno)
"""

PUT_ONE_AGAIN = """
import sys
from pathlib import Path
from tickets.files import write_whole
from tickets.registry import Registry
registry, data = Registry(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes()
for _ in range(30):
    ticket = registry.put(data)
    assert registry.get(ticket).id == ticket
    write_whole(registry.path(ticket), data, mode=0o444)  # the race that `put` itself seldom meets
"""


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def files(registry: Registry) -> list[str]:
    return sorted(path.name for path in registry.root.iterdir())


def test_a_put_ticket_is_there_under_its_id(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    assert registry.ids() == [ticket]
    assert registry.get(ticket).manifest == tiny_manifest()
    assert registry.path(ticket).read_bytes() == tiny_bundle()


def test_putting_the_same_ticket_again_changes_nothing(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    inode = registry.path(ticket).stat().st_ino
    assert registry.put(tiny_bundle()) == ticket
    assert registry.path(ticket).stat().st_ino == inode


def test_a_file_is_copied_in(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "a.ticket"
    source.write_bytes(tiny_bundle())
    ticket = registry.put_file(source)
    source.unlink()
    assert registry.get(ticket).id == ticket


def test_what_does_not_verify_is_not_kept(registry: Registry) -> None:
    with pytest.raises(BundleError):
        registry.put(tiny_bundle()[:-1])
    assert files(registry) == []


def test_a_missing_ticket_is_named(registry: Registry) -> None:
    with pytest.raises(TicketMissing, match="0" * 64):
        registry.get("0" * 64)
    with pytest.raises(TicketMissing):
        registry.remove("0" * 64)


@pytest.mark.parametrize("ticket", ["", "../../etc/passwd", "0" * 63, "A" * 64, "0" * 64 + "\n", "/" + "0" * 63])
def test_what_is_no_id_never_becomes_a_path(registry: Registry, ticket: str) -> None:
    with pytest.raises(TicketMissing):
        registry.get(ticket)


def test_a_damaged_file_is_not_served(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    damaged = bytearray(tiny_bundle())
    damaged[-1] ^= 1
    registry.path(ticket).unlink()
    registry.path(ticket).write_bytes(damaged)
    with pytest.raises(BundleError) as caught:
        registry.get(ticket)
    assert caught.value.code == "bad_digest"


def test_another_ticket_under_the_name_is_not_served(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle("fast"))
    registry.path(ticket).unlink()
    registry.path(ticket).write_bytes(tiny_bundle("accurate"))
    with pytest.raises(BundleError) as caught:
        registry.get(ticket)
    assert caught.value.code == "bad_digest"


def test_putting_a_ticket_again_heals_a_damaged_file(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    registry.path(ticket).unlink()
    registry.path(ticket).write_bytes(b"rotten")
    assert registry.put(tiny_bundle()) == ticket
    assert registry.get(ticket).id == ticket


def test_a_prefix_finds_its_ticket(registry: Registry) -> None:
    fast, accurate = registry.put(tiny_bundle("fast")), registry.put(tiny_bundle("accurate"))
    assert registry.resolve(fast[:8]) == fast
    assert registry.resolve(accurate) == accurate


def test_a_prefix_is_long_enough_hex_and_unique(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    for prefix in (ticket[:7], ticket.upper(), "*" * 8, "", "g" * 8):
        with pytest.raises(TicketMissing, match="first 8"):
            registry.resolve(prefix)
    with pytest.raises(TicketMissing, match="begins with"):
        registry.resolve("0" * 8)
    twin = ticket[:10] + "0" * 54
    shutil.copy(registry.path(ticket), registry.path(twin))
    with pytest.raises(TicketMissing, match="2 tickets"):
        registry.resolve(ticket[:8])


def test_a_removed_ticket_is_gone_and_who_read_it_keeps_it(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    bundle = registry.get(ticket)
    registry.remove(ticket)
    assert registry.ids() == []
    assert bytes(bundle.members["samples.json"])


def test_other_files_in_the_folder_are_not_tickets(registry: Registry) -> None:
    for name in ("README", "a.ticket", "0" * 64, f".{'0' * 64}.{'0' * 16}.tmp"):
        (registry.root / name).touch()
    registry.path("0" * 64).mkdir()
    assert registry.ids() == []


def test_only_old_leftovers_are_swept(registry: Registry) -> None:
    names = (f".{'0' * 64}.{'0' * 16}.tmp", f".{'0' * 64}.{'1' * 16}.tmp", "x.tmp")
    old, new, foreign = (registry.root / name for name in names)
    for path in (old, new, foreign):
        path.write_bytes(b"half a ticket")
    past = time.time() - LEFTOVER_AGE_S - 60
    os.utime(old, (past, past))
    os.utime(foreign, (past, past))
    Registry(registry.root)
    assert files(registry) == sorted([new.name, foreign.name])


def test_a_full_disk_is_an_os_error_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "a.ticket"
    source.write_bytes(tiny_bundle())
    with child(PUT_UNDER_A_FILE_LIMIT, registry.root, source) as process:
        output, _ = process.communicate()
    assert output.startswith("OSError")
    assert process.returncode == 0
    assert files(registry) == []


def test_killed_while_writing_no_half_ticket_is_visible(registry: Registry, tmp_path: Path) -> None:
    """Five writers are killed in the middle of their work; what they had announced is there, and all is whole."""
    source = tmp_path / "a.ticket"
    source.write_bytes(tiny_bundle())
    announced = set()
    for seed in range(5):
        with child(PUT_FOR_EVER, registry.root, source, seed) as process:
            assert process.stdout
            announced |= {process.stdout.readline().strip() for _ in range(2)}
            time.sleep(random.Random(seed).random() * 0.05)  # any moment will do: this chooses which
            process.kill()
            process.stdout.read()
        for ticket in registry.ids():
            assert registry.get(ticket).id == ticket
    assert announced <= set(registry.ids())
    assert len(announced) == 10


def test_processes_that_put_the_same_ticket_do_not_disturb_each_other(registry: Registry, tmp_path: Path) -> None:
    source = tmp_path / "a.ticket"
    source.write_bytes(tiny_bundle())
    processes = [child(PUT_ONE_AGAIN, registry.root, source) for _ in range(4)]
    for process in processes:
        with process:
            process.communicate()
        assert process.returncode == 0
    (ticket,) = registry.ids()
    assert files(registry) == [registry.path(ticket).name]


def test_a_read_only_folder_can_be_read(registry: Registry) -> None:
    ticket = registry.put(tiny_bundle())
    registry.root.chmod(0o555)
    try:
        assert Registry(registry.root).get(ticket).id == ticket
    finally:
        registry.root.chmod(0o755)
