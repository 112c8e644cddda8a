"""The sources that come with Roundsman. A new one is a file here and a line below."""

from roundsman.plugin import Source
from roundsman.sources import mailchimp, parakey, railz

SOURCES: dict[str, type[Source]] = {
    "parakey.event_logs": parakey.EventLogs,
    "parakey.batches": parakey.Batches,
    "mailchimp.batches": mailchimp.Batches,
    "railz.pushes": railz.Pushes,
}
