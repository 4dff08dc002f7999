"""The one way in which a model of one's own is refused: the field of its TOML, and what is wrong with it.

Owns nothing else; whoever finds the fault raises it (`tickets.imported` and the modules beside it).
"""


class ImportedError(ValueError):
    """A TOML file, or something it names, that no ticket can be made of. ``field`` is the TOML's."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
