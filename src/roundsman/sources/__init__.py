"""The sources that come with Roundsman. A new one is a file here and a line below.

They are listed by name and loaded only when used: a daemon that watches one vendor does not spend memory and
start-up time on the code for the others.
"""

SOURCES = {
    "parakey.event_logs": "roundsman.sources.parakey.event_logs:EventLogs",
    "parakey.batches": "roundsman.sources.parakey.batches:Batches",
    "mailchimp.batches": "roundsman.sources.mailchimp:Batches",
    "http.json": "roundsman.sources.http_json.source:HttpJson",
    "railz.pushes": "roundsman.sources.railz:Pushes",
}
