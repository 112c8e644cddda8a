"""Railz (FIS Accounting Data as a Service): how pushes to accounting systems ended."""

from roundsman.sources.railz.pushes import Pushes

__all__ = ["Pushes"]
