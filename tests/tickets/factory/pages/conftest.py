"""Plots that are painted but not rasterized, for tests that look at what a page says and not at its pictures."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tickets.factory.pages import ink

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc33"
    "0000000049454e44ae426082"
)


@pytest.fixture
def unrasterized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plot runs its whole code; the picture is one pixel."""

    def paint_only(inches: tuple[float, float], theme: ink.Ink, paint: "Callable[[Figure, ink.Ink], None]") -> bytes:
        import matplotlib as mpl
        from matplotlib.figure import Figure

        style: Any = ink.style(theme)
        with mpl.rc_context(style):
            paint(Figure(figsize=inches), theme)
        return PIXEL

    monkeypatch.setattr(ink, "rasterized", paint_only)
