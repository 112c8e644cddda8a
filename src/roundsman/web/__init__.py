"""The HTTP server that `[listen]` enables: webhook receiver, health and metrics.

Nothing else imports uvicorn.
"""

from roundsman.web.listener import Listener, ListenError

__all__ = ["ListenError", "Listener"]
