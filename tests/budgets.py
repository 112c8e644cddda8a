"""How often tests that prove by number repeat: small in CI, whole in `make proof`."""

import os

KILLS = int(os.environ.get("ROUNDSMAN_KILLS", "20"))
"""Kills of a daemon."""
CUTS = int(os.environ.get("ROUNDSMAN_CUTS", "10"))
"""Moments at which the power is cut or a call fails."""
SIMULATIONS = int(os.environ.get("ROUNDSMAN_SIMULATIONS", "15"))
"""Examples of a simulation; cheaper examples are a multiple of it."""
