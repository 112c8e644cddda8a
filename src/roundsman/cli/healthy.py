"""The command for probes: healthy."""

from functools import partial

from roundsman import config as configuration
from roundsman.cli.app import ConfigPath, Utc, app, fail, reading


@app.command()
def healthy(config: ConfigPath = None, utc: Utc = False) -> None:
    """Say in one line whether the daemon works, by its last record in the store. For cron and for a container's HEALTHCHECK.

    Healthy: the daemon has recorded within 180 seconds that it runs, the disk is not full, and no damage to the store is
    known. `roundsman once` leaves no such record. Reads no secret, and needs no listener. The line is on standard output,
    or on standard error if the exit status is 1: unhealthy.

    More: `roundsman help heartbeat`.
    """
    from roundsman.errors import StoreError
    from roundsman.screen.health import health
    from roundsman.store import Server

    path = configuration.find(config)
    store = configuration.store_of(path)
    worker = configuration.worker_of(path) if isinstance(store, Server) else None
    try:
        found = reading(store, partial(health, worker=worker, utc=utc))
    except StoreError as exc:
        fail(f"unhealthy: {exc}")
    if not found.works:
        fail(found.line)
    print(found.line)
