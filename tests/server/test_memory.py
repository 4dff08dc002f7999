"""Memory: the allocator's own count, to the byte, and what trimming gives back."""

import ctypes

import pytest

from server.memory import heap_bytes, is_exact, resident_bytes, trim

exact = pytest.mark.skipif(not is_exact(), reason="this C library does not count what is allocated")
SIZE = 1 << 20


@exact
@pytest.mark.parametrize("size", [1 << 10, 64 << 10, 8 << 20])
def test_what_is_allocated_and_freed_is_counted(size: int) -> None:
    """Small pieces come from an arena, large ones from mappings of their own."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = (ctypes.c_void_p,)
    before = heap_bytes()
    pieces = [libc.malloc(size) for _ in range(max(1, SIZE // size))]
    grown = heap_bytes() - before
    for piece in pieces:
        libc.free(piece)
    wanted = len(pieces) * size
    assert wanted <= grown < wanted * 1.1
    assert heap_bytes() - before < 0.1 * wanted


@exact
def test_trimming_gives_freed_pages_back() -> None:
    """Many pieces that lie between pieces which stay: the allocator keeps their pages until it is told."""
    pieces = [bytearray(30_000) for _ in range(2000)]
    kept = pieces[::40]
    full = resident_bytes()
    del pieces
    trim()
    assert full - resident_bytes() > 40_000_000
    assert len(kept) == 50


def test_the_resident_set_is_in_bytes() -> None:
    assert 1 << 20 < resident_bytes() < 1 << 36
