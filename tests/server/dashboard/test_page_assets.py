"""The page's files as they are: no way to make markup of data, nobody else asked, small, all named in advance."""

import gzip
import re
from importlib import resources

import pytest

ASSETS = resources.files("server.dashboard") / "assets"
MAX_ZIPPED_BYTES = 80_000


@pytest.mark.parametrize("name", sorted(file.name for file in ASSETS.iterdir() if file.is_file()))
def test_a_file_of_the_page_has_no_way_to_make_markup_of_data_and_asks_nobody_else(name: str) -> None:
    text = (ASSETS / name).read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|DOMParser|srcdoc", text
    )
    allowed = ("http://www.w3.org/2000/svg",)
    assert [found for found in re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\"'\s)]*", text) if found not in allowed] == []
    assert not re.search(r"\sstyle=|\son\w+=\"", text)
    assert len(text.splitlines()) <= 300


def test_the_page_names_every_module_in_advance() -> None:
    page = (ASSETS / "index.html").read_text()
    named = set(re.findall(r"dashboard/assets/([\w.]+)", page))
    assert named == {file.name for file in ASSETS.iterdir() if file.is_file()} - {"index.html"}


def test_the_page_is_small() -> None:
    zipped = sum(len(gzip.compress(file.read_bytes(), 9)) for file in ASSETS.iterdir() if file.is_file())
    assert zipped < MAX_ZIPPED_BYTES
