"""The URL of a server, as libpq gets it."""

import pytest

from roundsman.options.server import Server


@pytest.mark.parametrize("scheme", ["postgresql", "POSTGRESQL", "Postgres"])
def test_libpq_gets_the_scheme_in_lower_case(scheme: str) -> None:
    server = Server(f"{scheme}://Me:S3cret-word@DB.example/Mine")
    assert server.reveal() == f"{scheme.lower()}://Me:S3cret-word@DB.example/Mine"
    assert "S3cret-word" not in str(server)
