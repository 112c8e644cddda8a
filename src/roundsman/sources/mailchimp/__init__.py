"""Mailchimp: how batch operations ended, and which of them failed."""

from roundsman.sources.mailchimp.batches import Batches

__all__ = ["Batches"]
