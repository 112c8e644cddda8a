"""Sources of the type `http.json` for tests: the worked examples, each pointed at its mimic in the sandbox."""

import importlib.resources
import tomllib
from typing import Any

from roundsman.sandbox import github, okta, parakey, zendesk
from roundsman.sources.http_json.source import HttpJson

EXAMPLES = ("github", "okta", "zendesk", "nvd")
LOCAL: dict[str, dict[str, Any]] = {
    "github": {"path": f"/repos/{github.REPOSITORY}/events", "auth": {"bearer": github.TOKEN}},
    "okta": {"auth": {"value": f"SSWS {okta.API_TOKEN}"}},
    "zendesk": {"auth": {"user": f"{zendesk.EMAIL}/token", "password": zendesk.API_TOKEN}},
    "nvd": {"interval": 60},
}


def example(name: str) -> dict[str, Any]:
    """The table of an example as it is printed."""
    text = importlib.resources.files("roundsman").joinpath("examples", f"{name}.toml").read_text()
    [table] = tomllib.loads(text)["sources"].values()
    found: dict[str, Any] = table
    return found


def a_list(name: str = "list", **options: Any) -> HttpJson:
    """A source that is described here."""
    given = {
        "type": "http.json",
        "base_url": "http://127.0.0.1:1",
        "start": "beginning",
        "rows": {"id": "id"},
    }
    return HttpJson(**(given | options)).named(name)


def worked(name: str, **options: Any) -> HttpJson:
    """The worked example against its mimic."""
    return a_list(
        name,
        **(example(name) | {"base_url": "http://127.0.0.1:1", "start": "beginning"} | LOCAL[name] | options),
    )


def windows(**options: Any) -> HttpJson:
    """The worked example of windows, which cannot begin at the beginning."""
    return worked("nvd", **({"start": "2026-04-30T00:00:00Z"} | options))


def graph(**options: Any) -> HttpJson:
    """A search by POST, with a cursor in its body."""
    at = "data.repository.events"
    given: dict[str, Any] = {
        "path": "/graphql",
        "method": "POST",
        "body": {"query": "query { repository { events } }", "variables": {"first": 20}},
        "auth": {"bearer": github.TOKEN},
        "rows": {"at": f"{at}.nodes", "id": "id", "time": "createdAt"},
        "pages": {
            "next": f"{at}.pageInfo.endCursor",
            "param": "variables.after",
            "more": f"{at}.pageInfo.hasNextPage",
        },
        "since": {"next": True},
    }
    return a_list("graph", **(given | options))


def doors(**options: Any) -> HttpJson:
    """Parakey's event logs, as its documentation describes them."""
    given: dict[str, Any] = {
        "path": "/eventLogs",
        "query": {"limit": 10, "orderBy": "createdAt:ASC"},
        "auth": {"header": "access-token", "value": parakey.TOKEN},
        "rows": {"id": "id", "time": "createdAt"},
        "pages": {"next": "since"},
        "since": {"param": "startDate", "row": "createdAt"},
    }
    return a_list("table", **(given | options))
