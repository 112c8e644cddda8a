"""`roundsman run` as a worker that beats fast, and counts as dead soon: `python -m worker run -c FILE`."""

import sys
from pathlib import Path

from roundsman import config as configuration
from roundsman.engine.fleet import Pace
from roundsman.service import service

PACE = Pace(beat=0.2, dead=4.5)

if __name__ == "__main__":
    loaded = configuration.load(Path(sys.argv[-1]))
    sys.exit(service.run(lambda: service.daemon(loaded, PACE)))
