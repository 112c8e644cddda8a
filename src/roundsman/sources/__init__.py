"""The sources that come with Roundsman. A new one is a file here and a line below.

By name: a daemon that watches one vendor has no use for the code about the others, in its memory and at its start.
"""

SOURCES = {
    "parakey.event_logs": "roundsman.sources.parakey:EventLogs",
    "parakey.batches": "roundsman.sources.parakey:Batches",
    "mailchimp.batches": "roundsman.sources.mailchimp:Batches",
    "railz.pushes": "roundsman.sources.railz:Pushes",
}
