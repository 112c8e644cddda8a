"""What is read about the workers that share the store."""

NOW = "extract(epoch FROM clock_timestamp())::float8"
ALL_WORKERS = (
    f"SELECT w.id, b.name, w.host, w.pid, w.version, w.started, b.beat, {NOW} - b.beat, b.common, "  # noqa: S608 - fixed words
    "(SELECT count(*) FROM holds h WHERE h.holder = w.id AND h.kind = 'source')::int, "
    "(SELECT count(*) FROM holds h WHERE h.holder = w.id AND h.kind = 'sink')::int "
    "FROM workers w JOIN beats b ON b.worker = w.id WHERE w.ended IS NULL AND b.beat IS NOT NULL ORDER BY w.id"
)
"""Every worker that beats, as `Worker`. One that still starts holds nothing, and may take its time."""
HOLDERS = "SELECT h.name, b.name FROM holds h JOIN beats b ON b.worker = h.holder WHERE h.kind = %s"
"""What is held, and the names of the workers that hold it."""
OWN = (
    "SELECT w.pid, w.started, b.beat, w.version, b.config, b.digest, b.reloads, b.problems FROM beats b "
    "JOIN workers w ON w.id = b.worker WHERE w.ended IS NULL AND w.host = %s "
    "AND (b.name = %s OR %s::text IS NULL) ORDER BY b.beat DESC NULLS LAST LIMIT 1"
)
"""The newest record of a worker on this machine, with this name if there is one, as `DaemonRecord`."""
SHARED = "SELECT EXISTS (SELECT 1 FROM beats b JOIN workers w ON w.id = b.worker WHERE w.ended IS NULL)"
"""Whether workers share the store."""
