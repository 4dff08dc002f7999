"""Tabs for the tests of the page: one Chromium and one server of the page's files for each module."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.server.dashboard.page import Desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> "AsyncIterator[Browser]":
    """A Chromium."""
    from tests.server.dashboard import page

    async with page.browsing() as found:
        yield found


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Where the page is."""
    from tests.server.dashboard import page

    with page.serving() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def new_tab(browser: "Browser", base: str) -> "AsyncIterator[Callable[..., Awaitable[Desk]]]":
    """Open tabs, with options of the browser's contexts."""
    from tests.server.dashboard import page

    async with contextlib.AsyncExitStack() as stack:

        async def one(**options: Any) -> "Desk":
            return await stack.enter_async_context(page.desk(browser, base, **options))

        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def tab(new_tab: "Callable[..., Awaitable[Desk]]") -> "Desk":
    """One tab."""
    return await new_tab()
