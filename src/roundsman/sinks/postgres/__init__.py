"""Rows in a table of a PostgreSQL server, one for each event. The driver is imported when the sink is opened."""

from roundsman.sinks.postgres.sink import PostgresSink

__all__ = ["PostgresSink"]
