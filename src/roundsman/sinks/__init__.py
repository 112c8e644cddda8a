"""The registry of sinks: the class with the options of a `type` in TOML. Third parties add entry points."""

SINKS = {
    "stdout": "roundsman.sinks.stdout:StdoutSink",
    "file": "roundsman.sinks.file:FileSink",
    "http": "roundsman.sinks.http:HttpSink",
    "notify": "roundsman.sinks.notify:NotifySink",
    "exec": "roundsman.sinks.exec:ExecSink",
    "postgres": "roundsman.sinks.postgres:PostgresSink",
}

FOR_PEOPLE = frozenset({"notify"})
"""The built-in sinks with `Sink.for_people`, for commands that read no options."""
