"""The registry of sinks: TOML's `type` to the class that has its options. Third parties add entry points."""

from roundsman.plugin import Sink
from roundsman.sinks.file import FileSink
from roundsman.sinks.http import HttpSink
from roundsman.sinks.stdout import StdoutSink

SINKS: dict[str, type[Sink]] = {
    "stdout": StdoutSink,
    "file": FileSink,
    "http": HttpSink,
}
