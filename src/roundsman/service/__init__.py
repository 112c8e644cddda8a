"""The daemon process and its integration with systemd."""
