"""What a store's methods are made of: reads on a few connections, and units for the writer on another."""

from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from roundsman.options.server import Server
from roundsman.store.postgres.reader import Reader
from roundsman.store.postgres.transaction import Transaction
from roundsman.store.postgres.writer import Writer
from roundsman.store.tail import Tail
from roundsman.store.values import DAEMON

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Units")


class Units(Reader):
    """A store that can be written."""

    def __init__(self, place: Server, writer: Writer) -> None:
        super().__init__(place)
        self._writer = writer
        self._tail = Tail()
        self._numbers: dict[str, int] = {}
        """The numbers of sources, by name."""


Sources = Callable[..., Iterable[str]]
"""The sources that a unit writes about, of the arguments of its method."""


def durable(
    method: Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method one unit. Once it returns, its change survives a power cut."""
    return _unit(method, durable=True)


def durable_for(
    sources: Sources,
) -> Callable[
    [Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]]],
    Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
]:
    """The same for a method that writes about sources."""
    return lambda method: _unit(method, durable=True, sources=sources)


def relaxed(
    method: Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Makes a method one unit. Its change survives the end of processes at once, and a power cut after `sync`."""
    return _unit(method, durable=False)


def relaxed_for(
    sources: Sources,
) -> Callable[
    [Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]]],
    Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
]:
    """The same for a method that writes about sources."""
    return lambda method: _unit(method, durable=False, sources=sources)


def relaxed_for_all(
    method: Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """The same for a method that writes what all workers write: under the lock of the daemon's row, they wait in no circle."""
    return _unit(method, durable=False, sources=_daemon)


def _daemon(*_: object, **__: object) -> Iterable[str]:
    return (DAEMON,)


def _none(*_: object, **__: object) -> Iterable[str]:
    return ()


def _unit(
    method: Callable[Concatenate[S, Transaction, P], Coroutine[Any, Any, T]],
    *,
    durable: bool,
    sources: Sources = _none,
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    @wraps(method)
    async def wrapped(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._writer.write(
            lambda transaction: method(self, transaction, *args, **kwargs),
            durable=durable,
            sources=sources(*args, **kwargs),
        )

    return wrapped
