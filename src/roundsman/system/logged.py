"""The log lines: what each name means, and its fields. The documentation is made of this, and a test compares it with the code."""

from roundsman.system.line import DEBUG, FAULT, INFO, WARNING, Logged

IN_EVERY_LINE = {
    "timestamp": "When, in UTC (RFC 3339).",
    "level": "`debug`, `info`, `warning` or `error`.",
    "event": "The name of the line.",
    "visit": "In all lines of one visit: its number since the start of the process. They have `source`, too.",
    "source": "In all lines of one visit: the name of the source.",
    "sink": "In all lines about the deliveries of one sink: its name.",
    "exception": "The traceback of an unexpected error. It is a bug of Roundsman or of a plugin.",
}
"""The fields that lines have besides their own."""

SOURCE = "The name of the source."
SINK = "The name of the sink."
STORE = "The path of the store."
CALLS = "The number of requests since the last such line."
WHAT = "What happened, in a sentence."
ERROR = "What went wrong, in a sentence."
TYPE = "The type of the notice, such as `roundsman.source.gap`."
ADDRESS = "A list of addresses, such as `http://127.0.0.1:8377`."
WORKER = "The name of this worker."
MS = "Milliseconds that the visit took."

LOGGED = {
    "daemon.started": Logged(
        INFO,
        "`roundsman run` has read the configuration, opened the store, and begins to poll.",
        {
            "version": "The version of Roundsman.",
            "config": "The path of the configuration file.",
            "store": STORE,
            "sources": "The number of sources.",
            "sinks": "The number of sinks.",
        },
    ),
    "daemon.stopping": Logged(
        INFO,
        "A signal stops the daemon, or interrupts `roundsman once`.",
        {"signal": "`SIGTERM` or `SIGINT`; `interrupted` for `roundsman once`."},
    ),
    "daemon.stopped": Logged(INFO, "The daemon has stopped, and everything is stored.", {}),
    "daemon.notice": Logged(
        ("warning", "debug"),
        "The daemon reports something about itself or a sink. It is an event of the source `daemon`, too. At `debug`: "
        "`sink.failing`, `sink.recovered`, `store.damaged` or `clock.stepped` has said it.",
        {"type": TYPE, "what": WHAT},
        "reference/events.md",
    ),
    "config.reloaded": Logged(
        INFO,
        "A reload has put the new configuration into effect.",
        {
            "sources": "The number of sources.",
            "sinks": "The number of sinks.",
            "changes": "A list of what has changed, one sentence each, without values.",
        },
    ),
    "config.refused": Logged(
        FAULT,
        "A reload found mistakes. The old configuration stays in effect.",
        {
            "problems": "A list of the mistakes, one sentence each, with file and line: `FILE:LINE: PLACE: ...`."
        },
    ),
    "config.unmatched": Logged(
        WARNING,
        "At the start, and at a reload that changes it: a pattern of `include` matches no file.",
        {"what": "The pattern, with its file and line: `FILE:LINE: include.N: ...`."},
        "start/first-account.md#more-than-one-file",
    ),
    "command.failed": Logged(
        FAULT,
        "A command failed while its standard error is the journal, such as `run` with a wrong configuration.",
        {"problems": "A list of the messages that the command prints elsewhere."},
        "reference/exit-statuses.md",
    ),
    "poll.committed": Logged(
        ("info", "debug"),
        "A visit found something, and it is committed. In a long reading, one line every ten seconds. At `debug`: a "
        "reading of several polls found nothing new.",
        {
            "source": SOURCE,
            "new": "The number of new events.",
            "rows": "The number of rows read, new or not.",
            "more": "Whether the reading goes on. Only for a reading of several polls.",
            "ms": MS,
        },
    ),
    "poll.unchanged": Logged(
        DEBUG,
        "A visit found nothing new.",
        {"source": SOURCE, "rows": "The number of rows read.", "ms": MS},
    ),
    "poll.rung": Logged(
        ("info", "debug"),
        "A visit that a webhook started has ended. At `debug`: it found nothing new.",
        {"source": SOURCE, "new": "The number of new events.", "ms": MS},
    ),
    "poll.failed": Logged(
        ("warning", "debug"),
        "A visit failed. The cursor stays where it is. At `debug`: `source.failing` says it.",
        {
            "source": SOURCE,
            "error": ERROR,
            "failures": "The number of failures in a row.",
            "wait": "Seconds until the next try.",
        },
        "runbook/source-failing.md",
    ),
    "poll.unread": Logged(
        WARNING,
        "Rows could not be read. They are stored as they came.",
        {"source": SOURCE, "rows": "The number of these rows.", "what": "What is wrong with the first one."},
        "runbook/unread.md",
    ),
    "http.request": Logged(
        DEBUG,
        "A request has ended.",
        {
            "method": "The method, such as `GET`.",
            "url": "The URL without its query. For the link of a download: its host.",
            "status": "The status of the answer. Only if there was an answer.",
            "error": "The fault. Only if there was none.",
            "sent_tag": "The ETag that was sent in `If-None-Match`, if any.",
            "tag": "The ETag of the answer, if any.",
            "bytes": "The size of the body in bytes, if it was read.",
            "ms": "Milliseconds from the request to the end of the answer.",
        },
    ),
    "http.retry": Logged(
        INFO,
        "A request failed with a transient fault. It is sent again in the same visit.",
        {
            "host": "The host.",
            "attempt": "The number of the attempt that failed, from 1 on.",
            "error": "The status of the answer, or the fault in words.",
            "wait": "Seconds until the next attempt.",
        },
        "runbook/source-failing.md",
    ),
    "source.failing": Logged(
        FAULT,
        "The credentials of a source are refused, it has had no good answer for three intervals, or more than three visits in a row failed.",
        {
            "source": SOURCE,
            "error": ERROR,
            "failures": "The number of failures in a row.",
            "wait": "Seconds until the next scheduled visit.",
        },
        "runbook/source-failing.md",
    ),
    "source.recovered": Logged(
        INFO, "A failing source answers again.", {"source": SOURCE}, "runbook/source-failing.md"
    ),
    "source.notice": Logged(
        WARNING,
        "A source reports a gap, a stalled or unknown batch, silent webhooks, or a part of it that fails. It is an event, "
        "too.",
        {"source": SOURCE, "type": TYPE, "what": WHAT},
        "reference/events.md",
    ),
    "source.gap_closed": Logged(
        INFO,
        "A visit ended a gap of a source.",
        {"source": SOURCE, "since": "Since when rows were missing, as `status` showed it."},
        "runbook/gap.md",
    ),
    "source.rests": Logged(
        INFO,
        "The vendor asked for a pause of a minute or more. No request is sent before its end.",
        {"source": SOURCE, "seconds": "The pause in seconds."},
        "runbook/too-many-requests.md",
    ),
    "source.changed": Logged(
        WARNING,
        "A source reads another address, place or account than its cursor is for, or it has a new name.",
        {"source": SOURCE, "what": "What has changed, and the commands to choose from."},
        "start/first-account.md#another-address-or-account",
    ),
    "source.paused": Logged(
        INFO,
        "A person has paused a source. Also at the start, for each source that is paused.",
        {"source": SOURCE, "by": "Who.", "since": "When."},
        "guides/pausing.md",
    ),
    "source.resumed": Logged(
        INFO,
        "The pause of a source has ended.",
        {"source": SOURCE, "seconds": "How long it was paused."},
        "guides/pausing.md",
    ),
    "sink.paused": Logged(
        INFO,
        "A person has paused a sink. Also at the start, for each sink that is paused.",
        {"sink": SINK, "by": "Who.", "since": "When."},
        "guides/pausing.md",
    ),
    "sink.resumed": Logged(
        INFO,
        "The pause of a sink has ended.",
        {"sink": SINK, "seconds": "How long it was paused."},
        "guides/pausing.md",
    ),
    "source.rewound": Logged(
        INFO,
        "`roundsman rewind` was called during a visit. What the visit found is not committed, and the source is read again.",
        {"source": SOURCE},
    ),
    "vendor.surprise": Logged(
        WARNING,
        "An answer of the vendor, or the stored state, was not as expected. The source goes on.",
        {"source": SOURCE, "what": "What was unexpected, in a sentence."},
    ),
    "plugin.deprecated": Logged(
        WARNING,
        "A source plugin is written for a version before 0.6.",
        {"plugin": "Its module and class.", "what": "What to change."},
        "guides/write-a-source.md",
    ),
    "webhook.taken": Logged(
        INFO,
        "Webhooks were stored. At most one line in ten seconds for each source.",
        {"source": SOURCE, "calls": CALLS, "new": "The number of new events in them."},
    ),
    "webhook.tested": Logged(
        INFO,
        "`roundsman hooks test` sent a sample. It is not stored. At most one line in ten seconds for each source.",
        {"source": SOURCE, "calls": CALLS},
        "runbook/silent-webhook.md",
    ),
    "webhook.refused": Logged(
        WARNING,
        "Webhooks were refused. At most one line in ten seconds for each source and reason.",
        {
            "source": f"{SOURCE} Not there if no source has this path.",
            "reason": "Why: see [the reasons](metrics.md#roundsman_webhooks_total).",
            "calls": CALLS,
            "path": "The path without a token. Only if no source has it.",
        },
        "runbook/silent-webhook.md",
    ),
    "webhook.unread": Logged(
        FAULT,
        "A webhook is authentic, and its content could not be read. It is stored as it came.",
        {"source": SOURCE, "reason": "What is wrong with it.", "calls": CALLS},
        "runbook/unread.md",
    ),
    "listen.started": Logged(INFO, "The listener accepts connections.", {"address": ADDRESS}),
    "listen.stopped": Logged(INFO, "The listener is closed.", {"address": ADDRESS}),
    "listen.troubled": Logged(
        WARNING,
        "A connection could not be accepted, for lack of files or memory. At most one line in a minute.",
        {"error": "The error of the system, such as `Too many open files`."},
    ),
    "listen.failed": Logged(
        FAULT,
        "A request to the listener could not be answered. This is a bug.",
        {"path": "The first part of the path.", "calls": CALLS},
    ),
    "listen.unused": Logged(
        WARNING,
        "systemd passed a socket with another address than `address` of `[listen]`. The socket is used.",
        {"address": "The address that is not used.", "reason": "Why, and what to do."},
        "guides/systemd.md",
    ),
    "listen.unwanted": Logged(
        WARNING,
        "systemd passed a socket, and the configuration has no `[listen]`.",
        {"reason": "The same in a sentence."},
        "guides/systemd.md",
    ),
    "page.entered": Logged(
        INFO,
        "A person has logged in to the page by its form, or a program has shown its login for the first time from this address.",
        {"address": "The address of the caller. Of IPv6, the network."},
        "guides/page.md",
    ),
    "page.refused": Logged(
        WARNING,
        "Logins to the page were refused. At most one line in ten seconds for each reason.",
        {
            "reason": "`wrong login`, or `too often`: the address has to wait, and its login was not tried.",
            "address": "The address of the last caller. Of IPv6, the network.",
            "calls": CALLS,
        },
        "guides/page.md",
    ),
    "heartbeat.failed": Logged(
        WARNING,
        "A request of `[heartbeat]` failed. Once, until one succeeds.",
        {"error": "What went wrong, with the host alone: the path of the URL is its key."},
        "guides/heartbeat.md",
    ),
    "heartbeat.recovered": Logged(
        INFO, "A request of `[heartbeat]` succeeded after a failure.", {}, "guides/heartbeat.md"
    ),
    "sink.delivered": Logged(
        DEBUG,
        "A sink has acknowledged events.",
        {"sink": SINK, "events": "The number of events.", "ms": "Milliseconds that the delivery took."},
    ),
    "sink.failing": Logged(
        WARNING,
        "A delivery failed, or has not ended for ten minutes. The events wait.",
        {
            "sink": SINK,
            "error": ERROR,
            "failures": "The number of failures in a row.",
            "wait": "Seconds until the next try.",
        },
        "runbook/sink-failing.md",
    ),
    "sink.recovered": Logged(
        INFO,
        "A sink acknowledges events again.",
        {"sink": SINK, "failures": "The number of failures before."},
        "runbook/sink-failing.md",
    ),
    "event.buried": Logged(
        FAULT,
        "A sink refused an event for good, or the event is damaged. It is a dead letter. Further ones of the same sink "
        "within a minute are in one line.",
        {
            "sink": SINK,
            "seq": "The number of the event in the log. This and the next three are of one event.",
            "source": "The name of the source of the event.",
            "type": "The type of the event.",
            "id": "The id of the event.",
            "count": "How many were buried since the line before. This and the next two are of several events.",
            "first": "The number in the log of the first one.",
            "last": "The number in the log of the last one.",
            "reason": "Why, in a sentence; of several, why the last one.",
        },
        "runbook/dead-letters.md",
    ),
    "event.raised": Logged(
        INFO,
        "A dead letter was delivered after `roundsman dead retry`.",
        {"sink": SINK, "seq": "The number of the event in the log.", "id": "The id of the event."},
        "runbook/dead-letters.md",
    ),
    "store.failed": Logged(
        FAULT,
        "The store could not be read or written. At most one line in ten seconds for the same error.",
        {"error": ERROR},
        "runbook/disk-low.md",
    ),
    "store.lost": Logged(
        FAULT,
        "The file of the store was deleted or replaced while the daemon ran. The daemon ends with the status 1.",
        {"path": STORE, "reason": "The same in a few words."},
        "runbook/store-damaged.md#the-store-was-deleted-or-replaced",
    ),
    "store.clock": Logged(
        WARNING,
        "The clock of this machine and that of the server of the store differ. The times in the store are those of this "
        "machine.",
        {"path": STORE, "ahead": "Seconds by which the clock of this machine is ahead; negative: behind."},
        "guides/postgresql.md#when-something-is-wrong",
    ),
    "store.damaged": Logged(
        FAULT,
        "A check found damage in the store. Until it is repaired, webhooks get 503.",
        {"error": "What the check found, and what to do."},
        "runbook/store-damaged.md",
    ),
    "store.recovered": Logged(
        FAULT,
        "The `-wal` file of the store was deleted while in use. Its content was kept.",
        {"path": STORE, "reason": "The same in a few words."},
        "runbook/store-damaged.md",
    ),
    "store.copied": Logged(
        INFO,
        "Before an upgrade that rewrites rows, the store was copied.",
        {"path": "The path of the copy.", "kept": "Seconds after which the copy is removed."},
        "guides/backups-and-upgrades.md",
    ),
    "store.uncopied": Logged(
        WARNING,
        "Such a copy was not possible. The store was upgraded without it.",
        {"path": STORE, "reason": "Why, in a few words."},
        "guides/backups-and-upgrades.md",
    ),
    "store.tidied": Logged(
        INFO,
        "The copy of the store from before an upgrade was removed.",
        {"path": "The path of the copy.", "reason": "Why, in a few words."},
    ),
    "clock.stepped": Logged(
        WARNING,
        "The clock of the machine was set. No source is polled earlier or later for it.",
        {"seconds": "By how much, in seconds; negative if it was set back."},
        "runbook/clock.md",
    ),
    "clock.slept": Logged(
        WARNING,
        "The machine was suspended. Sources that are overdue are polled soon, one after the other.",
        {"seconds": "For how long, in seconds."},
        "runbook/clock.md",
    ),
    "alarm.failed": Logged(
        FAULT,
        "A scheduled visit was not started. This is a bug.",
        {"due": "When it was due.", "error": ERROR},
    ),
    "worker.holds": Logged(
        INFO,
        "What this worker of a shared store holds has changed.",
        {
            "sources": "How many sources.",
            "sinks": "How many sinks.",
            "workers": "How many workers there are.",
        },
    ),
    "worker.differs": Logged(
        WARNING,
        "The configurations of the workers have been different for 10 minutes: reload those that have the older one.",
        {"worker": WORKER, "others": "The workers with another configuration than this one."},
    ),
    "worker.lost": Logged(
        WARNING,
        "Another worker no longer beats. Its session was ended, and what it held is free.",
        {"worker": "Its name.", "pid": "Its process.", "seconds": "Since its last beat."},
    ),
    "worker.replaced": Logged(
        WARNING, "Another worker has ended this one's session. It begins a new one.", {"worker": WORKER}
    ),
    "library.message": Logged(
        ("warning", "error"),
        "A library that Roundsman uses logged a warning or an error.",
        {"logger": "The name of its logger.", "message": "Its text."},
    ),
}
"""Every log line by name, in the order of the documentation."""
