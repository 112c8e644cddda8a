"""The page for people, and the answers for programs that pull: what `[listen.page]` enables.

Nothing of it is imported without that table.
"""

from roundsman.web.page.routes import routes

__all__ = ["routes"]
