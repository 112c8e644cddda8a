"""The pages of the reference: for each file name without `.md`, the function that returns its text."""

from collections.abc import Callable

from generated import commands, configuration, endpoints, events, exit_statuses, files, logs, metrics

PAGES: dict[str, Callable[[], str]] = {
    "commands": commands.page,
    "configuration": configuration.page,
    "events": events.page,
    "logs": logs.page,
    "metrics": metrics.page,
    "endpoints": endpoints.page,
    "files": files.page,
    "exit-statuses": exit_statuses.page,
}
