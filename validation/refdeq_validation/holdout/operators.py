"""Automatic changes of source code: one small change of one expression or statement per mutant."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Mutant", "mutants_of"]


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Attributes
    ----------
    module, function : str
        Where; the function by its qualified name.
    operator : str
        What kind of change.
    before, after : str
        Changed text, unparsed.
    occurrence : int
        Which of the places in the function that read like `before`.
    tree : ast.Module
        The whole module, changed; ready to be compiled.
    """

    module: str
    function: str
    operator: str
    before: str
    after: str
    occurrence: int
    tree: ast.Module = field(compare=False, repr=False)

    @property
    def key(self) -> str:
        """Name that survives edits elsewhere in the module."""
        text = f"{self.operator}|{self.before}|{self.after}|{self.occurrence}"
        return f"{self.module}:{self.function}:{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def mutants_of(module: str, source: str, functions: frozenset[str] | None = None) -> Iterator[Mutant]:
    r"""Every mutant of a module.

    Parameters
    ----------
    module : str
        Name, for the keys.
    source : str
    functions : set of qualified names, optional
        Functions to change; all by default. Nested functions belong to the one around them.

    Examples
    --------
    >>> [m.after for m in mutants_of("m", "def f(x):\n    return x < 1\n")]
    ['return None', 'x <= 1', 'x >= 1', 'return x < 2', 'return x < 0']
    """
    tree = ast.parse(source)
    for function, path in _functions(tree, ()):
        if functions is not None and function not in functions:
            continue
        yield from _mutants_in(module, tree, function, path)


Path = tuple[tuple[str, int | None], ...]
"""Way from the root of a tree to a node: fields, with a position where the field is a list."""


def _functions(node: ast.AST, path: Path, prefix: str = "") -> Iterator[tuple[str, Path]]:
    for position, child in enumerate(getattr(node, "body", [])):
        here: Path = (*path, ("body", position))
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, here
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, here, f"{prefix}{child.name}.")


def _mutants_in(module: str, tree: ast.Module, function: str, path: Path) -> Iterator[Mutant]:
    seen: dict[tuple[str, str, str], int] = {}
    for way, node in _walk(_at(tree, path), path):
        for operator, new, shown in _changes(node):
            # a changed constant says little by itself: the key and the reader get the expression around it
            around = _around(tree, way) if shown else way
            before = ast.unparse(_at(tree, around))
            changed = _with(tree, way, ast.fix_missing_locations(ast.copy_location(new, node)))
            assert isinstance(changed, ast.Module)
            after = ast.unparse(_at(changed, around))
            place = (operator, before, after)
            seen[place] = seen.get(place, -1) + 1
            yield Mutant(module, function, operator, before, after, seen[place], changed)


def _walk(node: ast.AST, path: Path) -> Iterator[tuple[Path, ast.AST]]:
    """Every node that may change, with its way from the root: bodies only, without docstrings, annotations and messages."""
    yield path, node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment", "ctx") or isinstance(node, ast.Raise):
            continue
        if isinstance(value, list):
            for position, child in enumerate(value):
                if isinstance(child, ast.AST) and not _is_docstring(child):
                    yield from _walk(child, (*path, (name, position)))
        elif isinstance(value, ast.AST):
            yield from _walk(value, (*path, (name, None)))


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node = tree
    for name, position in path:
        value = getattr(node, name)
        node = value if position is None else value[position]
    return node


def _around(tree: ast.AST, path: Path) -> Path:
    """Way to the expression that says what a small node is for: two steps up, within the statement."""
    for steps in (2, 1):
        node = _at(tree, path[:-steps]) if len(path) > steps else None
        blocks = ast.FunctionDef | ast.If | ast.For | ast.While | ast.With
        if isinstance(node, ast.expr | ast.stmt) and not isinstance(node, blocks):
            return path[:-steps]
    return path


def _with(tree: ast.AST, path: Path, new: ast.AST) -> ast.AST:
    """A tree with one node exchanged; what is not on the way to it is shared with the original."""
    if not path:
        return new
    (name, position), rest = path[0], path[1:]
    changed, value = copy.copy(tree), getattr(tree, name)
    if position is None:
        setattr(changed, name, _with(value, rest, new))
    else:
        setattr(changed, name, [*value[:position], _with(value[position], rest, new), *value[position + 1 :]])
    return changed


_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}

_BINARY: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.MatMult: (),
}

_NAMES = {"any": "all", "all": "any", "max": "min", "min": "max", "zeros": "ones", "ones": "zeros", "floor": "ceil"}

Change = tuple[str, ast.AST, bool]
"""Operator, new node, and whether to show the expression around it."""


def _changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            for other in _COMPARE.get(type(operator), ()):
                ops = [*node.ops[:position], other(), *node.ops[position + 1 :]]
                yield "compare", ast.Compare(node.left, ops, node.comparators), False
    elif isinstance(node, ast.BinOp):
        for swapped in _BINARY.get(type(node.op), ()):
            yield "arithmetic", ast.BinOp(node.left, swapped(), node.right), False
    elif isinstance(node, ast.AugAssign):
        for swapped in _BINARY.get(type(node.op), ()):
            yield "arithmetic", ast.AugAssign(node.target, swapped(), node.value), False
        yield "overwrite", ast.Assign([node.target], node.value), False
        yield "delete", ast.Pass(), False
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert | ast.Not):
        yield "unary", node.operand, True
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "boolean", ast.BoolOp(other_op, node.values), False
    elif isinstance(node, ast.If | ast.While):
        yield "negate", _with_test(node), False
    elif isinstance(node, ast.IfExp):
        yield "negate", ast.IfExp(node.test, node.orelse, node.body), False
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    else:
        yield from _statements(node)


def _with_test(node: ast.If | ast.While) -> ast.AST:
    test = ast.UnaryOp(ast.Not(), node.test)
    return type(node)(test, node.body, node.orelse)


def _constants(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value), True
    elif isinstance(value, int):
        yield "constant", ast.Constant(value + 1), True
        yield "constant", ast.Constant(value - 1), True
    elif isinstance(value, float):
        yield "constant", ast.Constant(value + 1.0), True
        if value:
            yield "constant", ast.Constant(-value), True


def _calls(node: ast.Call) -> Iterator[Change]:
    if isinstance(node.func, ast.Attribute) and node.func.attr in _NAMES:
        func = ast.Attribute(node.func.value, _NAMES[node.func.attr], node.func.ctx)
        yield "name", ast.Call(func, node.args, node.keywords), False
    if len(node.args) >= 2 and not any(isinstance(argument, ast.Starred) for argument in node.args):
        yield "swap", ast.Call(node.func, [*node.args[:-2], node.args[-1], node.args[-2]], node.keywords), False
    if isinstance(node.func, ast.Attribute) and len(node.args) <= 1 and not node.keywords:
        of_numpy = isinstance(node.func.value, ast.Name) and node.func.value.id == "np"
        if not of_numpy or node.args:
            yield "unwrap", node.args[0] if of_numpy else node.func.value, True
    for position in range(len(node.keywords)):
        keywords = [*node.keywords[:position], *node.keywords[position + 1 :]]
        yield "keyword", ast.Call(node.func, node.args, keywords), False


def _statements(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
        yield "delete", ast.Pass(), False
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return", ast.Return(ast.Constant(None)), False
    elif isinstance(node, ast.Continue):
        yield "loop", ast.Break(), False
    elif isinstance(node, ast.Break):
        yield "loop", ast.Continue(), False
