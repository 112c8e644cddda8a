"""Messages to people: by mail, chat or phone, one for many events, repeated until a failure is ticked off."""

from roundsman.sinks.notify.sink import NotifySink

__all__ = ["NotifySink"]
