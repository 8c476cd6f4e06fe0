"""Signing in leads to a page of this server, whatever the address asks for."""

import pytest

from producer.server.pages.access.next_address import address_of, local_address, sign_in_address


@pytest.mark.parametrize(
    "value",
    ["/batches", "/batches?status=failed&after=batch_1", "/", "/schedules/night%20ly/runs/2026-03-02T01:00Z", "/a//b"],
)
def test_a_page_of_this_server_is_kept(value: str) -> None:
    assert local_address(value) == value


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "batches",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/ok\r\nset-cookie: a=b",
        "https://evil.example/",
        "javascript:alert(1)",
        "/batches ",
        "/é",
        "/\u202eevil",
        "/login",
        "/login?next=/login",
        "/logout",
        "//[",
        "/" + "a" * 2_000,
    ],
)
def test_everything_else_is_the_first_page(value: str | None) -> None:
    assert local_address(value) == "/"


def test_of_a_whole_url_the_path_and_the_query_are_kept() -> None:
    assert address_of("http://127.0.0.1:8000/batches?status=failed#top") == "/batches?status=failed"
    assert address_of("http://host//evil.example") == "/"
    assert address_of("http://[") == "/"
    assert address_of(None) == "/"


def test_the_form_comes_back_to_where_one_was() -> None:
    assert sign_in_address("/") == "/login"
    assert sign_in_address("/batches?a=b&c=d") == "/login?next=%2Fbatches%3Fa%3Db%26c%3Dd"
