"""The process, and what systemd has to do with it."""
