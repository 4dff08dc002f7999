"""Rows: one labelled text each, as a file gives it, and the error that says what is wrong with them."""

from dataclasses import dataclass


class DataError(ValueError):
    """A data set that no honest ticket can be made from; the message names what and where."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text as a file gives it. ``split`` and ``domain`` are empty where the file has none."""

    text: str
    label: str
    split: str = ""
    domain: str = ""
