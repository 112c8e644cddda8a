"""The URL of a server, as libpq gets it."""

import pytest

from roundsman.options.server import Server


@pytest.mark.parametrize("scheme", ["postgresql", "POSTGRESQL", "Postgres"])
def test_libpq_gets_the_scheme_in_lower_case(scheme: str) -> None:
    server = Server(f"{scheme}://Me:S3cret-word@DB.example/Mine")
    assert server.reveal() == f"{scheme.lower()}://Me:S3cret-word@DB.example/Mine"
    assert "S3cret-word" not in str(server)


@pytest.mark.parametrize(
    "password", ["pa@ss1word", "pa/ss1word", "pa/ss?1word", "12/ss?w=ord", "pa?s=s1word", "pa#ss1word"]
)
def test_a_url_whose_password_may_have_a_sign_of_urls_in_it_is_refused_and_no_part_of_it_is_shown(
    password: str,
) -> None:
    with pytest.raises(ValueError, match='write it as "%2F", "%40" or "%23"') as refused:
        Server(f"postgresql://app:{password}@db.example:5432/rm?application_name=rm")
    assert not set(str(refused.value).split()) & {"ss1word", "1word", "ord", password}


def test_signs_of_urls_in_a_password_are_written_with_a_percent_sign() -> None:
    server = Server("postgresql://app:pa%40s%2Fs%3Fw%23@db.example/rm?application_name=a%40b")
    assert str(server) == "postgresql://app@db.example/rm?application_name=a%40b"
