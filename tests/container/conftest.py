"""The image, built once for all tests here."""

from collections.abc import Iterator

import pytest

from conftest import need
from containers import Podman, missing


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman, which has the image."""
    why = missing()
    need(why is None, why or "")
    podman = Podman(tmp_path_factory.mktemp("podman"))
    try:
        podman.build()
        yield podman
    finally:
        podman.close()
