"""What the class of a source reads out of the source's stored state, for `status`."""

from collections.abc import Callable, Sequence

from roundsman.errors import ConfigError
from roundsman.plugin import Source, Tracks
from roundsman.screen.status import Progress
from roundsman.store import Memory


class States:
    """Reads the states of sources by their types."""

    def __init__(self, class_of: Callable[[str], type[Source]]) -> None:
        """`class_of`: the class of a type; ConfigError if it is not installed any more."""
        self._class_of = class_of
        self._classes: dict[str, type[Source]] = {}
        """The classes by type: each search reads the metadata of all installed packages."""

    def following(self, kind: str, memory: Memory) -> Sequence[str]:
        """The ids that a source follows."""
        try:
            followed = self._of(kind).following(memory.state)
        except ValueError:  # a later version's state
            return memory.ids
        return [*followed, *memory.ids]

    def gap(self, kind: str, memory: Memory) -> str | None:
        """Since when a source's rows may be missing: "" if none are, None if the state does not show it."""
        source = self._of(kind)
        try:
            since = source.gap(memory.state)
        except ValueError:
            return None
        return since if since or source.gap.__func__ is Source.gap.__func__ else ""  # type: ignore[attr-defined]

    def progress(self, kind: str, memory: Memory) -> Progress:
        """How far a source has come."""
        source = self._of(kind)
        try:
            return Progress(source.reading(memory.state), issubclass(source, Tracks))
        except ValueError:
            return Progress(None, issubclass(source, Tracks))

    def _of(self, kind: str) -> type[Source]:
        if kind not in self._classes:
            try:
                self._classes[kind] = self._class_of(kind)
            except ConfigError:
                self._classes[kind] = Source  # type: ignore[type-abstract] # it has what is asked of it
        return self._classes[kind]
