"""The store in one SQLite file, and all the SQL for it.

    events    the log: append-only, numbered by `seq`, `(source, id)` unique
    sources   each source's state, its `due`, and the results of its visits
    inbox     ids that a source is to track, until a visit takes them up
    sinks     each sink's cursor and receipt
    dead      dead letters: events that a sink rejected permanently
    daemons   the daemon that runs on the store: its process, its configuration, its last beat
    unread    authentic webhooks that were not understood, and rows that could not be read

One connection reads what is committed. One writes (`writer.py`). What is durable survives a power cut
once it is committed. The rest (`due`, sinks' cursors, counters) survives `kill -9`, but a power cut may cost the
last second, which means one early request or one repeated delivery.
"""
