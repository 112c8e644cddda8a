"""Parakey: who opened which door, and how batches of access keys ended.

Webhooks bring the bare resource, an event log or a batch, and do not state which. They are authenticated by a
header that a person entered at Parakey
(https://help.parakey.co/nb/articles/681873-receiving-batch-completions). So each source has its own address,
and refuses the other kind of resource.
"""

from roundsman.sources.parakey.batches import Batches
from roundsman.sources.parakey.event_logs import EventLogs

__all__ = ["Batches", "EventLogs"]
