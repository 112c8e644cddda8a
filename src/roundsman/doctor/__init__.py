"""Examines an installation, and packs what was found so that a stranger may read it."""
