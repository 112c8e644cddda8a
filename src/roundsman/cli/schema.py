"""The command `schema`: the JSON Schemas of the configuration file and of the events."""

import json
from typing import Annotated, Literal

import typer

from roundsman import config as configuration
from roundsman.cli.app import app


@app.command()
def schema(
    what: Annotated[Literal["config", "events"], typer.Argument(help="The schema to print.")],
) -> None:
    """Print the JSON Schema of the configuration file or of the events."""
    from roundsman.kinds import schemas

    print(json.dumps(configuration.json_schema() if what == "config" else schemas(), indent=2))
