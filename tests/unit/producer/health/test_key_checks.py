"""What the doctor finds about keys."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from producer.health.key_checks import MAX_FINDINGS, find_key_problems
from producer.tenants.keys import KeyView
from producer.tenants.principal import Scope

NOW, DAY = datetime(2026, 11, 30, tzinfo=UTC), timedelta(days=1)
KEY = KeyView(
    "0123456789abcdef", "acme", "ci", (Scope.READ,), NOW - 100 * DAY, None, None, NOW - DAY, has_expired=False
)


def found(*views: KeyView, host: str = "127.0.0.1") -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in find_key_problems(views, host, NOW)]


def test_keys_in_use() -> None:
    assert found(KEY, replace(KEY, tenant="other"), replace(KEY, tenant=None)) == [("ok", "3 active keys of 3 tenants")]


@pytest.mark.parametrize(
    ("host", "levels"),
    [("127.0.0.1", []), ("::1", []), ("localhost", []), ("0.0.0.0", ["problem"]), ("mill.example.org", ["problem"])],
)
def test_without_keys_only_this_machine_is_served(host: str, levels: list[str]) -> None:
    assert [level for level, _ in found(host=host)] == levels


def test_without_active_keys_everybody_is_refused() -> None:
    [(level, message)] = found(replace(KEY, revoked_at=NOW), replace(KEY, has_expired=True))

    assert (level, "refuse everybody" in message) == ("warning", True)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (replace(KEY, expires_at=NOW + 14 * DAY), "key 0123456789abcdef of tenant acme expires in 14 days"),
        (replace(KEY, expires_at=NOW + 15 * DAY), None),
        (replace(KEY, last_used_at=NOW - 90 * DAY), "key 0123456789abcdef of tenant acme was not used for 90 days"),
        (replace(KEY, last_used_at=None, tenant=None), "key 0123456789abcdef of all tenants was not used for 100 days"),
        (replace(KEY, last_used_at=None, created_at=NOW - 89 * DAY), None),
        (replace(KEY, last_used_at=NOW - 99 * DAY, revoked_at=NOW), None),
    ],
)
def test_a_key_that_needs_attention(key: KeyView, message: str | None) -> None:
    assert found(KEY, key)[1:] == ([] if message is None else [("warning", message)])


def test_many_of_them_are_counted() -> None:
    old = replace(KEY, last_used_at=None)

    assert found(*[old] * (MAX_FINDINGS + 7))[-1] == ("warning", "and 7 more like these")
