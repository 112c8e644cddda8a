"""The HTTP server that `[listen]` enables: webhook receiver, health, metrics, and the page.

Nothing else imports uvicorn.
"""

from roundsman.web.listener import Listener, ListenError

__all__ = ["ListenError", "Listener"]
