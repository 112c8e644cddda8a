"""Texts in the code: docstrings, and the texts below names."""

import ast
import inspect
from itertools import pairwise
from types import ModuleType


def below(module: ModuleType) -> dict[str, str]:
    """The text below each name of a module."""
    found = {}
    for statement, text in pairwise(ast.parse(inspect.getsource(module)).body):
        match statement, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = inspect.cleandoc(words)
    return found


def doc(of: object) -> str:
    return inspect.cleandoc(of.__doc__ or "")


def paragraph(text: str, number: int) -> str:
    """One paragraph of a docstring, from 0 on; empty if there is none."""
    return dict(enumerate(text.split("\n\n"))).get(number, "")
