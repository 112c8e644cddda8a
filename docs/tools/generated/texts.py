"""Texts in the code: docstrings, and the texts below names."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType

from typing_extensions import is_typeddict


def below(module: ModuleType) -> dict[str, str]:
    """The text below each name of a module."""
    return _texts(ast.parse(inspect.getsource(module)).body)


def _texts(body: Sequence[ast.stmt]) -> dict[str, str]:
    found = {}
    for statement, text in pairwise(body):
        match statement, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(words))),
            ):
                found[name] = inspect.cleandoc(words)
    return found


def members(shape: type) -> dict[str, str]:
    """The text below each member of a `TypedDict`, and of those that it extends."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(shape))).body
    assert isinstance(body, ast.ClassDef)
    bases = (getattr(sys.modules[shape.__module__], ast.unparse(base)) for base in body.bases)
    inherited = [members(base) for base in bases if is_typeddict(base)]  # its bases are gone at run time
    return {name: text for each in [*inherited, _texts(body.body)] for name, text in each.items()}


def doc(of: object) -> str:
    return inspect.cleandoc(of.__doc__ or "")


def paragraph(text: str, number: int) -> str:
    """One paragraph of a docstring, from 0 on; empty if there is none."""
    return dict(enumerate(text.split("\n\n"))).get(number, "")
