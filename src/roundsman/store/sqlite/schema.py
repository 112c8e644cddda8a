"""The tables of the store, as migrations: one for each version that changed them."""

from collections.abc import Mapping, Sequence

LOG = (
    """
    CREATE TABLE sources (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT '{}',
        revision INTEGER NOT NULL DEFAULT 0, -- moved by rewind: a visit begun before it is void
        due REAL NOT NULL DEFAULT 0,         -- -1: a command requests a visit
        visited REAL,
        answered REAL,
        changed REAL,
        polls INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0, -- in a row
        unanswered REAL,                     -- since when there is no good answer
        failing REAL,                        -- since when that is reported
        error TEXT,
        position REAL                        -- the newest stamp: readings reach back from it
    )
    """,
    "CREATE INDEX wanted ON sources (due) WHERE due < 0",
    """
    CREATE TABLE sinks (
        name TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        cursor INTEGER NOT NULL,             -- the last seq it has
        receipt TEXT,                        -- the receipt of its last ack
        delivered REAL,
        failures INTEGER NOT NULL DEFAULT 0,
        failing REAL,
        error TEXT
    ) WITHOUT ROWID
    """,
    # AUTOINCREMENT: without it, a log that was pruned empty would begin at seq 1 again, before all cursors.
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        outcome TEXT,
        logged REAL NOT NULL,
        stamp REAL,                          -- the vendor's time, as in sources.position
        body BLOB,                           -- the CloudEvent; NULL when pruned
        UNIQUE (source, id)
    )
    """,
    """
    CREATE TABLE dead (
        sink TEXT NOT NULL,
        seq INTEGER NOT NULL,
        buried REAL NOT NULL,
        reason TEXT NOT NULL,
        retry INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (sink, seq)
    ) WITHOUT ROWID
    """,
)


FOLLOW = (
    # AUTOINCREMENT: a visit deletes the ids up to the number that it read; no later id may get such a number.
    """
    CREATE TABLE inbox (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        id TEXT NOT NULL,
        UNIQUE (source, id)
    )
    """,
    "ALTER TABLE events ADD COLUMN failure INTEGER",  # 1: a failure; 0: a failure marked as done; else NULL
    "CREATE INDEX failures ON events (failure, seq) WHERE failure IS NOT NULL",
)


RECEIVE = (
    # push: from a webhook; ring: from a webhook-triggered visit; NULL: from another visit
    "ALTER TABLE events ADD COLUMN via TEXT",
    "ALTER TABLE sources ADD COLUMN heard REAL",  # when the last authentic webhook was received
    "ALTER TABLE sources ADD COLUMN calls INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sources ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sources ADD COLUMN refusal TEXT",  # why the last one was refused
    "ALTER TABLE sources ADD COLUMN held REAL",  # no request before this time, even if a webhook rings
    """
    CREATE TABLE unread (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        source INTEGER NOT NULL REFERENCES sources (id),
        received REAL NOT NULL,
        why TEXT NOT NULL,
        body BLOB NOT NULL
    )
    """,
    "CREATE INDEX letters ON unread (source, n)",
)


OWN = (
    # The daemon's notices are events of the source `daemon`. Another source of that name is renamed and keeps
    # its log.
    "UPDATE sources SET name = 'daemon (a source)' WHERE name = 'daemon'",
    "INSERT INTO sources (name, type) VALUES ('daemon', 'roundsman')",
    "ALTER TABLE sources ADD COLUMN options TEXT",  # fingerprint of the options with which it last failed
    "ALTER TABLE sinks ADD COLUMN reached INTEGER",  # the cursor before a replay: the sink got all up to it
    "CREATE INDEX buried ON dead (seq)",
)


ORIGIN = (
    "ALTER TABLE sources ADD COLUMN origin TEXT",  # what the state was read from: an address and an account
    "ALTER TABLE sources ADD COLUMN moved TEXT",  # what the source reads now, if that is another origin
)


DAEMONS = (
    # One row, because a store has one daemon. Before, its values were in the row of `sources` for the notices
    # of the daemon.
    """
    CREATE TABLE daemons (
        id INTEGER PRIMARY KEY,
        pid INTEGER,
        started REAL,
        beat REAL,                           -- when it last wrote that it runs
        version TEXT,
        config TEXT,                         -- the path of its configuration; NULL for `once`
        digest TEXT,                         -- of the configuration that it took over or refused last
        reloads INTEGER NOT NULL DEFAULT 0,
        problems TEXT NOT NULL DEFAULT '[]', -- why the last reload was refused
        pruned INTEGER NOT NULL DEFAULT 0,   -- how far the round of pruning is
        ids_pruned INTEGER NOT NULL DEFAULT 0 -- whether ids were ever pruned, not only payloads
    )
    """,
    """
    INSERT INTO daemons (id, beat, config, digest, reloads, problems, pruned, ids_pruned)
    SELECT 1, visited, json_extract(state, '$.config'), json_extract(state, '$.digest'), revision,
        coalesce(json_extract(state, '$.problems'), '[]'), coalesce(position, 0),
        -- Until now, numbers were given without holes.
        (SELECT count(*) FROM events) < (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events')
    FROM sources WHERE type = 'roundsman'
    """,
    "UPDATE sources SET state = '{}', revision = 0, position = NULL, visited = NULL WHERE type = 'roundsman'",
)


ACT = (
    "ALTER TABLE sources ADD COLUMN paused REAL",  # since when a person has paused it
    "ALTER TABLE sources ADD COLUMN paused_by TEXT",
    "ALTER TABLE sinks ADD COLUMN paused REAL",
    "ALTER TABLE sinks ADD COLUMN paused_by TEXT",
    "ALTER TABLE sinks ADD COLUMN until REAL",  # when to call the sink, also without events
    "ALTER TABLE sinks ADD COLUMN held INTEGER NOT NULL DEFAULT 0",  # events that it has acked, and sends then
    "CREATE INDEX paused_sources ON sources (paused) WHERE paused IS NOT NULL",
    # What persons did with failures. A failure is done or open by its last row.
    """
    CREATE TABLE acts (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        seq INTEGER NOT NULL,                -- the failure
        at REAL NOT NULL,
        who TEXT NOT NULL,
        done INTEGER NOT NULL,               -- 1: ticked off; 0: that was undone
        note TEXT,
        about TEXT                           -- source, person and thing: a later failure of the same is "again"
    )
    """,
    "CREATE INDEX acts_about ON acts (about) WHERE about IS NOT NULL",
    "CREATE INDEX acts_seq ON acts (seq)",
)


COUNTS = (
    # The time comes first: what is written in one minute is in a few pages, also for very many sources.
    """
    CREATE TABLE source_counts (
        span INTEGER NOT NULL,               -- 0: an hour; 1: a day
        at INTEGER NOT NULL,                 -- the number of the hour or the day since 1970, in UTC
        source INTEGER NOT NULL REFERENCES sources (id),
        counts BLOB NOT NULL,                -- MessagePack: a map of numbers (tallies.py) and words to counts
        PRIMARY KEY (span, at, source)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE sink_counts (
        span INTEGER NOT NULL,
        at INTEGER NOT NULL,
        sink TEXT NOT NULL,
        counts BLOB NOT NULL,
        PRIMARY KEY (span, at, sink)
    ) WITHOUT ROWID
    """,
)


STEPS: Mapping[str, Sequence[str]] = {
    "001_log": LOG,
    "002_follow": FOLLOW,
    "003_receive": RECEIVE,
    "004_own": OWN,
    "005_origin": ORIGIN,
    "006_daemons": DAEMONS,
    "007_act": ACT,
    "008_counts": COUNTS,
}
"""The statements of each migration, in order. A store with any other migration was written by a newer version."""

REWRITING = frozenset({"004_own", "006_daemons"})
"""Migrations that change rows which are there. The others add tables, columns and rows."""

APPLIED = ("_sqlite_migrations", "roundsman")
"""The table that lists the applied migrations, and the name of ours in it."""
