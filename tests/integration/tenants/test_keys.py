"""API keys in the database: created, verified, listed and revoked."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from models.db import Database
from models.errors import NotFound, Unauthorized, UsageError
from producer.tenants import keys
from producer.tenants.authentication import REMEMBER_SECONDS, Authenticator
from producer.tenants.keys import KeyRequest, NewKey
from producer.tenants.principal import OPERATOR, Principal, Scope
from producer.times import Deadline
from tests.factories.batch_rows import execute

READ = (Scope.READ,)


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def create(database: Database, tenant: str | None = "acme", **options: object) -> NewKey:
    return keys.create_key(database, KeyRequest(tenant, READ, **options))  # type: ignore[arg-type]


def bearer(key_text: str) -> list[str]:
    return [f"Bearer {key_text}"]


class TestVerify:
    def test_a_key_stands_for_its_tenant_and_scopes(self, database: Database) -> None:
        new = keys.create_key(database, KeyRequest("acme", keys.parse_scopes(["submit", "read"])))

        principal = Principal("acme", frozenset({Scope.READ, Scope.SUBMIT}), new.view.id)
        assert keys.verify_key(database, new.text) == (principal, True)
        keys.touch_key(database, new.view.id)
        assert keys.verify_key(database, new.text) == (principal, False)

    def test_a_key_of_all_tenants(self, database: Database) -> None:
        new = create(database, None)

        assert (new.view.tenant, keys.verify_key(database, new.text)[0].tenant) == (None, None)

    def test_only_a_hash_of_the_secret_is_stored(self, database: Database) -> None:
        new = create(database)

        with database.read() as connection:
            row = connection.execute(text("SELECT * FROM api_keys")).one()

        secret = new.text.split("_", 2)[2]
        assert len(secret) == 43
        assert secret not in str(row)
        assert new.text not in repr(new)

    def test_others_are_unknown(self, database: Database) -> None:
        new, other = create(database), create(database)
        secret = new.text.split("_", 2)[2]
        forged = f"bm_{other.view.id}_{secret}"
        changed = new.text[:-1] + ("A" if new.text[-1] != "A" else "B")

        for wrong in (forged, changed, new.text[:-1], new.text + "A", new.text.upper(), f"bm_{'0' * 16}_{secret}", ""):
            with pytest.raises(Unauthorized, match="not known") as caught:
                keys.verify_key(database, wrong)
            assert secret not in str(caught.value)

    def test_revoked(self, database: Database) -> None:
        new = create(database)
        first = keys.revoke_key(database, new.view.id)

        assert first.state == "revoked"
        assert keys.revoke_key(database, new.view.id) == first
        with pytest.raises(Unauthorized, match="revoked"):
            keys.verify_key(database, new.text)

    @pytest.mark.parametrize(
        "expires", [Deadline(seconds=-1.0), Deadline(expires_at=datetime.now(UTC) - timedelta(seconds=9))]
    )
    def test_expired(self, database: Database, expires: Deadline) -> None:
        new = create(database, expires=expires)

        assert new.view.state == "expired"
        with pytest.raises(Unauthorized, match="expired"):
            keys.verify_key(database, new.text)

    @pytest.mark.parametrize("expires", [keys.parse_expiry("90d"), keys.parse_expiry("2199-01-01")])
    def test_not_yet_expired(self, database: Database, expires: Deadline) -> None:
        new = create(database, expires=expires)

        assert new.view.state == "active"
        assert keys.verify_key(database, new.text)[0].tenant == "acme"

    def test_an_expired_key_that_is_not_whole_is_unknown(self, database: Database) -> None:
        new = create(database, expires=Deadline(seconds=-1.0))

        with pytest.raises(Unauthorized, match="not known"):
            keys.verify_key(database, f"bm_{new.view.id}_{'A' * 43}")


class TestList:
    def test_by_tenant(self, database: Database) -> None:
        first, second, last = create(database, name="ci"), create(database, "other"), create(database, None)

        listed = keys.list_keys(database)
        assert {key.id for key in listed} == {key.view.id for key in (first, second, last)}
        # SQLite's clock counts milliseconds, and keys of the same one are in the order of their ids.
        assert listed == sorted(listed, key=lambda key: (key.created_at, key.id))
        assert [key.name for key in keys.list_keys(database, "acme")] == ["ci"]

    def test_an_unknown_id_is_not_repeated(self, database: Database) -> None:
        with pytest.raises(NotFound) as caught:
            keys.revoke_key(database, "bm_0123456789abcdef_secret")

        assert "secret" not in str(caught.value)


class TestRequest:
    @pytest.mark.parametrize("tenant", ["", "-a", ".", "a b", "a/b", "é", "*", "a" * 65, "a\n"])
    def test_no_tenant(self, tenant: str) -> None:
        with pytest.raises(UsageError, match="no tenant's name"):
            KeyRequest(tenant, READ)

    def test_unknown_and_missing_scopes(self) -> None:
        with pytest.raises(UsageError, match="there is no scope 'write'"):
            keys.parse_scopes(["write"])
        with pytest.raises(UsageError, match="name what the key may do"):
            KeyRequest("acme", ())

    @pytest.mark.parametrize("value", ["", "soon", "0d", "2020-01-01", "99999d"])
    def test_no_end_of_a_key(self, value: str) -> None:
        with pytest.raises(UsageError, match="not when a key can end"):
            keys.parse_expiry(value)


class TestLastUse:
    def test_it_is_written_once_a_minute(self, database: Database) -> None:
        key_id = create(database).view.id
        keys.touch_key(database, key_id)
        [first] = keys.list_keys(database)
        keys.touch_key(database, key_id)
        [second] = keys.list_keys(database)
        then = database.sql.seconds_from_now(-61)
        execute(database, f"UPDATE api_keys SET last_used_at = {then}")
        keys.touch_key(database, key_id)
        [third] = keys.list_keys(database)

        assert first.last_used_at is not None
        assert first.last_used_at == second.last_used_at
        assert third.last_used_at is not None
        assert third.last_used_at >= first.last_used_at


class TestAuthenticator:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def authenticator(self, clock: Clock) -> Authenticator:
        return Authenticator(clock)

    @pytest.mark.parametrize("headers", [[], ["Bearer sk-anything"], ["a", "b"]])
    def test_without_keys_everybody_is_the_operator(
        self, database: Database, authenticator: Authenticator, headers: list[str]
    ) -> None:
        assert authenticator.authenticate(database, headers) == (OPERATOR, False)

    def test_the_first_key_closes_the_door_and_revoking_it_does_not_open_it(
        self, database: Database, authenticator: Authenticator, clock: Clock
    ) -> None:
        authenticator.authenticate(database, [])
        new = create(database)
        clock.now += REMEMBER_SECONDS

        assert authenticator.authenticate(database, bearer(new.text))[0].tenant == "acme"
        keys.revoke_key(database, new.view.id)
        clock.now += REMEMBER_SECONDS
        for door in (authenticator, Authenticator(clock)):
            with pytest.raises(Unauthorized):
                door.authenticate(database, [])
            with pytest.raises(Unauthorized, match="revoked"):
                door.authenticate(database, bearer(new.text))

    def test_a_verified_key_costs_no_query_for_a_few_seconds(
        self, database: Database, authenticator: Authenticator, clock: Clock
    ) -> None:
        new = create(database)
        assert authenticator.authenticate(database, bearer(new.text))[1]
        keys.revoke_key(database, new.view.id)

        assert not authenticator.authenticate(database, bearer(new.text))[1]
        clock.now += REMEMBER_SECONDS
        with pytest.raises(Unauthorized, match="revoked"):
            authenticator.authenticate(database, bearer(new.text))

    def test_headers_that_are_no_key(self, database: Database, authenticator: Authenticator) -> None:
        key = create(database).text
        wrong = [
            [],
            [""],
            [key],
            ["Basic " + key],
            ["Bearer"],
            ["Bearer "],
            [f"Bearer {key} x"],
            [f"Bearer {key}, Bearer {key}"],
            [f"Bearer {key}", f"Bearer {key}"],
            [f"Bearer {' ' * 600}{key}"],
            ["Bearer é" + key],
            [f"Bearer {key}\x00"],
        ]
        for headers in wrong:
            with pytest.raises(Unauthorized) as caught:
                authenticator.authenticate(database, headers)
            assert key not in str(caught.value)

        assert authenticator.authenticate(database, [f"bearer  {key} "])[0].tenant == "acme"
