"""The arguments and options of a command, from its function's annotations."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo


@dataclass(frozen=True)
class Parameter:
    """One of them."""

    names: tuple[str, ...]
    """The names of an option, such as `-c` and `--config`; none for an argument."""
    value: str
    """What stands for its value; empty for a flag."""
    help: str
    default: Any
    """The value without it; `inspect.Parameter.empty` if it is required."""
    repeated: bool

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def usage(self) -> str:
        """How it is written in the usage line."""
        name = self.names[-1] if self.names and len(self.names[-1]) == 2 else "".join(self.names[:1])
        text = f"{name} {self.value}".strip() + ("..." if self.repeated else "")
        return text if self.required else f"[{text}]"

    def head(self) -> str:
        """The code that it is described under."""
        return ", ".join(self.names) + f" {self.value}".rstrip() if self.names else self.value


def parameters(callback: Callable[..., Any]) -> Iterator[Parameter]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        annotation = hints[name]
        if get_origin(annotation) is Annotated:
            sort, info = get_args(annotation)[:2]
            yield _parameter(name, sort, info, parameter.default)


def _parameter(name: str, sort: Any, info: ParameterInfo, default: Any) -> Parameter:
    choices = next((get_args(each) for each in _inside(sort) if get_origin(each) is Literal), ())
    value = "|".join(choices) or (info.metavar or name.upper()).strip("[]")
    is_flag = isinstance(info, OptionInfo) and sort is bool
    # Inside `Annotated`, the first name stands in the place of a default.
    names = tuple(each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str))
    if isinstance(info, OptionInfo) and not names:
        names = (f"--{name.replace('_', '-')}",)
    repeated = any(get_origin(each) is list for each in _inside(sort))
    assert isinstance(info, ArgumentInfo | OptionInfo)
    return Parameter(names, "" if is_flag else value, info.help or "", default, repeated)


def _inside(sort: Any) -> Iterator[Any]:
    yield sort
    for each in get_args(sort):
        yield from _inside(each)
