"""The registry of sinks: TOML's `type` to the class that has its options. Third parties add entry points."""

SINKS = {
    "stdout": "roundsman.sinks.stdout:StdoutSink",
    "file": "roundsman.sinks.file:FileSink",
    "http": "roundsman.sinks.http:HttpSink",
}
