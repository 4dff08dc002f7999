"""The static scan: a stranger's ONNX graph looked at byte by byte before any runtime sees it.

Owns what a graph may be made of at all: operators, subgraphs, initializers, names, and how many of each. It is
strict where protobuf is lenient (fields twice, fields nobody knows, sizes that only look small), so that what
was looked at is what will be run. Whether it fits its manifest is `server.gate.matching`'s, and whether it
runs, the runtime's. Pure: bytes in, `Scanned` or `ScanError` out.
"""

from collections.abc import Iterator

import msgspec

from server.gate.content import Values, check_content
from server.gate.operators import DOMAINS, LOOPS, REFUSED
from tickets.onnx_reader import fields, text

MAX_NODES = 100_000
MAX_TENSORS = 100_000
MAX_FIELDS = 3_000_000
"""Fields that are looked at in all: some three seconds' work."""
MAX_DEPTH = 4
"""Subgraphs within each other (of If)."""
MAX_SUBGRAPHS = 256
MAX_NAME_BYTES = 4096

_VARINT, _BYTES, _ANY = "varint", "bytes", "any"
_MODEL = {1: _VARINT, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _VARINT, 6: _BYTES, 7: _BYTES, 8: _BYTES, 14: _BYTES,
          20: _BYTES, 25: _BYTES, 26: _BYTES}  # fmt: skip
_GRAPH = {1: _BYTES, 2: _BYTES, 5: _BYTES, 10: _BYTES, 11: _BYTES, 12: _BYTES, 13: _BYTES, 14: _BYTES, 15: _BYTES,
          16: _BYTES}  # fmt: skip
_NODE = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _BYTES, 6: _BYTES, 7: _BYTES, 8: _BYTES, 9: _BYTES, 10: _BYTES}
_ATTRIBUTE = {1: _BYTES, 2: _BYTES, 3: _VARINT, 4: _BYTES, 5: _BYTES, 6: _BYTES, 7: _ANY, 8: _ANY, 9: _BYTES,
              10: _BYTES, 11: _BYTES, 13: _BYTES, 14: _BYTES, 15: _BYTES, 20: _VARINT, 21: _BYTES, 22: _BYTES,
              23: _BYTES}  # fmt: skip
_TENSOR = {1: _ANY, 2: _VARINT, 3: _BYTES, 4: _ANY, 5: _ANY, 6: _BYTES, 7: _ANY, 8: _BYTES, 9: _BYTES, 10: _ANY,
           11: _ANY, 12: _BYTES, 13: _BYTES, 14: _VARINT, 16: _BYTES}  # fmt: skip
_OPSET = {1: _BYTES, 2: _VARINT}
"""The fields of each message, and how each is written. FIXED32 and FIXED64 count as bytes."""


class ScanError(ValueError):
    """A graph that may not be opened, and why, with what to do where something can be done."""


class Scanned(msgspec.Struct, frozen=True, kw_only=True):
    """What a graph is made of. ``tables``: the number of rows of each initializer that `Gather` reads by a graph input
    of that name."""

    nodes: int
    subgraphs: int
    initializers: int
    initializer_bytes: int
    operators: list[str]
    opsets: dict[str, int]
    tables: dict[str, int]


def scan(model: bytes | memoryview, *, allows_loops: bool = False) -> Scanned:
    """Look at a whole graph. Raises ScanError; takes time in proportion to its fields, and little memory."""
    try:
        return _Scan(memoryview(model), allows_loops=allows_loops).result()
    except ScanError:
        raise
    except (ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise ScanError(f"model.onnx is not an ONNX model: {error or 'it ends too early'}") from error


class _Scan:
    """One look. Counts are of the whole model, subgraphs included."""

    def __init__(self, model: memoryview, *, allows_loops: bool) -> None:
        self._model, self._allows_loops = model, allows_loops
        self._fields = self._nodes = self._subgraphs = self._tensors = self._bytes = 0
        self._operators: set[str] = set()
        self._opsets: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._tables: dict[str, int] = {}

    def result(self) -> Scanned:
        model = self._message(self._model, _MODEL, "ModelProto", once=(1, 2, 3, 4, 5, 6, 7))
        if model.get(25):
            raise ScanError("the model defines functions of its own: export it with functions inlined")
        if model.get(20):
            raise ScanError("the model carries training information: export it for inference")
        for entry in _views(model, 8):
            self._opset(entry)
        graphs = _views(model, 7)
        if not graphs:
            raise ScanError("model.onnx is not an ONNX model: it has no graph")
        self._graph(graphs[0], frozenset(), 0)
        return Scanned(
            nodes=self._nodes,
            subgraphs=self._subgraphs,
            initializers=self._tensors,
            initializer_bytes=self._bytes,
            operators=sorted(self._operators),
            opsets=self._opsets,
            tables=self._tables,
        )

    def _message(self, data: memoryview, known: dict[int, str], name: str, once: tuple[int, ...]) -> Values:
        """A message's values by field; refuses what other readers may read differently."""
        found: Values = {}
        for number, value in fields(data):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise ScanError(f"the model has more than {MAX_FIELDS} fields")
            kind = known.get(number)
            if kind is None:
                raise ScanError(f"{name} has a field {number}, which is unknown")
            if kind != _ANY and isinstance(value, int) != (kind == _VARINT):
                raise ScanError(f"field {number} of {name} is written in a way that is not its own")
            found.setdefault(number, []).append(value)
        for number in once:
            if len(found.get(number, ())) > 1:
                raise ScanError(f"{name} has field {number} twice, where one is allowed")
        return found

    def _opset(self, entry: memoryview) -> None:
        values = self._message(entry, _OPSET, "OperatorSetIdProto", once=(1, 2))
        domain, version = _domain(_text(values, 1)), _number(values, 2)
        if domain in self._opsets:
            raise ScanError(f"operator domain {domain!r} is imported twice")
        if not 1 <= version <= 1000:
            raise ScanError(f"version {version} of operator domain {domain!r} does not exist")
        self._opsets[domain] = version

    def _graph(self, data: memoryview, outer: frozenset[str], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ScanError(f"subgraphs are nested deeper than {MAX_DEPTH}")
        graph = self._message(data, _GRAPH, "GraphProto", once=(2, 10))
        if graph.get(15):
            raise ScanError("the model has sparse initializers, which may unfold to any size: store them densely")
        known = set(outer)
        inputs = {_text(self._named(view), 1) for view in _views(graph, 11)}
        initializers = [self._tensor(view) for view in _views(graph, 5)]
        if len(set(initializers)) != len(initializers):
            raise ScanError("two initializers have the same name")
        known |= inputs | set(initializers) | {""}  # an input that is left out has no name
        for view in _views(graph, 1):
            self._node(view, known, frozenset(inputs), depth)
        for view in _views(graph, 12):
            name = _text(self._named(view), 1)
            if name not in known:
                raise ScanError(f"nothing makes the graph's output {name!r}")

    def _named(self, data: memoryview) -> Values:
        return self._message(data, {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES}, "ValueInfoProto", once=(1, 2))

    def _node(self, data: memoryview, known: set[str], inputs: frozenset[str], depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ScanError(f"the model has more than {MAX_NODES} nodes")
        node = self._message(data, _NODE, "NodeProto", once=(3, 4, 6, 7, 8))
        operator, domain = _text(node, 4), _domain(_text(node, 7))
        self._operator(operator, domain, node)
        taken, made = _texts(node, 1), [name for name in _texts(node, 2) if name]
        for name in taken:
            if name not in known:
                raise ScanError(
                    f"{operator} takes {name!r} before anything makes it: nodes stand in order, without cycles"
                )
        for name in made:
            if name in known:
                raise ScanError(f"{name!r} is made twice")
        if operator == "Gather" and depth == 0 and len(taken) > 1 and taken[0] in self._rows and taken[1] in inputs:
            rows = self._rows[taken[0]]
            self._tables[taken[1]] = min(rows, self._tables.get(taken[1], rows))
        for view in _views(node, 5):
            self._attribute(view, operator, known, depth)
        known.update(made)

    def _operator(self, operator: str, domain: str, node: Values) -> None:
        if domain not in DOMAINS:
            raise ScanError(f"operator {domain}.{operator} is not of a domain that may be run ({', '.join(DOMAINS)})")
        if domain not in self._opsets:
            raise ScanError(f"operator {operator} is of domain {domain!r}, which the model does not import")
        if operator in REFUSED:
            raise ScanError(f"operator {operator} {REFUSED[operator]}")
        if operator in LOOPS and not self._allows_loops:
            raise ScanError(f"operator {operator} may never end; an operator can allow it (see docs/gate.md)")
        if _text(node, 8):
            raise ScanError(f"operator {operator} names an overload, which only functions of the model have")
        self._operators.add(operator if domain == "ai.onnx" else f"{domain}.{operator}")

    def _attribute(self, data: memoryview, operator: str, known: set[str], depth: int) -> None:
        attribute = self._message(data, _ATTRIBUTE, "AttributeProto", once=(1, 2, 3, 4, 5, 6, 13, 14, 20, 21, 22))
        if attribute.get(21):
            raise ScanError("an attribute refers to one of a function, and there are none")
        if attribute.get(22) or attribute.get(23):
            raise ScanError("an attribute holds a sparse tensor, which may unfold to any size: store it densely")
        for view in (*_views(attribute, 5), *_views(attribute, 10)):
            self._tensor(view)
        for view in (*_views(attribute, 6), *_views(attribute, 11)):
            self._subgraphs += 1
            if operator not in ("If", *LOOPS):
                raise ScanError(f"operator {operator} has a subgraph, which only If may have")
            if self._subgraphs > MAX_SUBGRAPHS:
                raise ScanError(f"the model has more than {MAX_SUBGRAPHS} subgraphs")
            self._graph(view, frozenset(known), depth + 1)

    def _tensor(self, data: memoryview) -> str:
        """Check one tensor's data against what it claims; its name."""
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise ScanError(f"the model has more than {MAX_TENSORS} tensors")
        tensor = self._message(data, _TENSOR, "TensorProto", once=(2, 3, 8, 9, 12, 14))
        name = _text(tensor, 8)
        if tensor.get(13) or _number(tensor, 14):
            raise ScanError(f"tensor {name!r} has its data in another file: export the model as one file")
        if tensor.get(3):
            raise ScanError(f"tensor {name!r} is in segments, which nobody reads")
        try:
            dims, size = check_content(tensor)
        except ValueError as error:
            raise ScanError(f"tensor {name!r} {error}") from error
        self._bytes += size
        if dims and name:
            self._rows[name] = dims[0]
        return name


def _views(values: Values, number: int) -> list[memoryview]:
    return [value for value in values.get(number, ()) if isinstance(value, memoryview)]


def _texts(values: Values, number: int) -> list[str]:
    return list(_decoded(_views(values, number)))


def _decoded(views: list[memoryview]) -> Iterator[str]:
    for view in views:
        if len(view) > MAX_NAME_BYTES:
            raise ScanError(f"a name has {len(view)} bytes; the limit is {MAX_NAME_BYTES}")
        yield text(view)


def _text(values: Values, number: int) -> str:
    return next(iter(_texts(values, number)), "")


def _number(values: Values, number: int) -> int:
    return next((value for value in values.get(number, ()) if isinstance(value, int)), 0)


def _domain(name: str) -> str:
    return name or "ai.onnx"
