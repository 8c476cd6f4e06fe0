"""Sessions of the pages in the database."""

import pytest
from sqlalchemy import text

from models.db import Database
from models.errors import Forbidden, Unauthorized
from models.lifecycle import expired_sessions
from producer.tenants import keys, sessions
from producer.tenants.authentication import REMEMBER_SECONDS, Authenticator
from producer.tenants.keys import KeyRequest, NewKey
from producer.tenants.principal import Scope
from producer.times import Deadline
from tests.factories.batch_rows import execute

PAST = "2026-01-01 00:00:00"


def new_key(database: Database, *scopes: Scope, tenant: str | None = "acme") -> NewKey:
    return keys.create_key(database, KeyRequest(tenant, scopes or tuple(Scope)))


def rows(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(text("SELECT token_hash FROM sessions ORDER BY token_hash")))


@pytest.mark.parametrize("tenant", ["acme", None])
def test_a_session_has_the_rights_of_its_key(database: Database, tenant: str | None) -> None:
    key = new_key(database, Scope.READ, Scope.SUBMIT, tenant=tenant)

    session = sessions.sign_in(database, key.text)
    principal, is_use_unknown = sessions.verify_session(database, session.token)

    assert principal == session.principal
    assert (principal.tenant, principal.key_id) == (tenant, key.view.id)
    assert principal.scopes == {Scope.READ, Scope.SUBMIT}
    assert not is_use_unknown  # signing in was a use
    assert keys.list_keys(database)[0].last_used_at is not None


def test_only_a_hash_of_the_token_is_stored(database: Database) -> None:
    session = sessions.sign_in(database, new_key(database).text)

    assert rows(database) == [sessions.hash_token(session.token)]
    assert session.token not in str(rows(database))
    assert len(session.token) >= 43


def test_each_sign_in_has_its_own_token(database: Database) -> None:
    key = new_key(database)
    first, second = (sessions.sign_in(database, key.text) for _ in range(2))

    sessions.sign_out(database, first.token)
    sessions.sign_out(database, first.token)

    assert first.token != second.token
    assert sessions.verify_session(database, second.token)[0].tenant == "acme"
    with pytest.raises(Unauthorized):
        sessions.verify_session(database, first.token)


def test_wrong_keys_and_keys_that_may_not_read_begin_none(database: Database) -> None:
    key = new_key(database)
    for wrong in ("", "bm_", key.text[:-1], key.text + "x", "' OR 1=1 --", key.text.replace("bm_", "bm-")):
        with pytest.raises(Unauthorized) as caught:
            sessions.sign_in(database, wrong)
        assert key.text[20:-1] not in str(caught.value)
    with pytest.raises(Forbidden, match="scope read"):
        sessions.sign_in(database, new_key(database, Scope.SUBMIT, Scope.ADMIN).text)
    assert rows(database) == []


@pytest.mark.parametrize("end", ["revoked", "expired", "too old", "signed out"])
def test_a_session_ends(database: Database, end: str) -> None:
    key = new_key(database)
    session = sessions.sign_in(database, key.text)

    if end == "revoked":
        keys.revoke_key(database, key.view.id)
    elif end == "expired":
        execute(database, f"UPDATE api_keys SET expires_at = '{PAST}'")
    elif end == "too old":
        execute(database, f"UPDATE sessions SET expires_at = '{PAST}'")
    else:
        sessions.sign_out(database, session.token)

    with pytest.raises(Unauthorized, match="sign in again"):
        sessions.verify_session(database, session.token)


def test_a_token_is_no_key_and_a_key_is_no_token(database: Database) -> None:
    key = new_key(database)
    session = sessions.sign_in(database, key.text)
    authenticator = Authenticator()
    authenticator.authenticate_session(database, session.token)
    authenticator.authenticate(database, [f"Bearer {key.text}"])

    with pytest.raises(Unauthorized):
        authenticator.authenticate(database, [f"Bearer {session.token}"])
    with pytest.raises(Unauthorized):
        authenticator.authenticate_session(database, key.text)


def test_a_revoked_key_ends_a_remembered_session_within_seconds(database: Database) -> None:
    now = [1000.0]
    authenticator = Authenticator(lambda: now[0])
    key = new_key(database)
    session = sessions.sign_in(database, key.text)
    authenticator.authenticate_session(database, session.token)
    keys.revoke_key(database, key.view.id)

    now[0] += REMEMBER_SECONDS - 0.1
    assert authenticator.recall_session(session.token) is not None
    now[0] += 0.2

    assert authenticator.recall_session(session.token) is None
    with pytest.raises(Unauthorized):
        authenticator.authenticate_session(database, session.token)


def test_an_ended_session_is_forgotten_at_once(database: Database) -> None:
    authenticator = Authenticator()
    session = sessions.sign_in(database, new_key(database).text)
    authenticator.authenticate_session(database, session.token)

    sessions.sign_out(database, session.token)
    authenticator.forget_session(session.token)

    with pytest.raises(Unauthorized):
        authenticator.authenticate_session(database, session.token)


def test_old_rows_go_at_sign_in_and_by_maintenance(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expired_sessions, "MAX_DELETED", 2)
    key = new_key(database)
    kept = sessions.sign_in(database, key.text)
    for number in range(5):
        execute(database, f"INSERT INTO sessions (token_hash, key_id, expires_at) VALUES ('{number}', 'k', '{PAST}')")

    new = sessions.sign_in(database, key.text)
    assert len(rows(database)) == 2 + 3

    assert expired_sessions.sweep(database) == "deleted 2 sessions that had expired"
    assert expired_sessions.sweep(database) == "deleted 1 sessions that had expired"
    assert expired_sessions.sweep(database) == ""
    assert set(rows(database)) == {sessions.hash_token(session.token) for session in (kept, new)}


def test_a_key_keeps_its_newest_sessions(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_OF_KEY", 2)
    key, other = new_key(database), new_key(database)
    kept = [sessions.sign_in(database, other.text)]
    signed_in = []
    for minutes in range(3):  # apart: SQLite's clock counts milliseconds
        signed_in.append(sessions.sign_in(database, key.text))
        expires_at = database.sql.seconds_from_now(3_600 + 60 * minutes)
        statement = f"UPDATE sessions SET expires_at = {expires_at} WHERE token_hash = :hash"
        execute(database, statement, hash=sessions.hash_token(signed_in[-1].token))
    first, *newest = signed_in

    assert set(rows(database)) == {sessions.hash_token(session.token) for session in (*kept, *newest)}
    with pytest.raises(Unauthorized):
        sessions.verify_session(database, first.token)


def test_a_key_that_will_expire_ends_the_session_then(database: Database) -> None:
    request = KeyRequest("acme", (Scope.READ,), expires=Deadline(seconds=3600.0))
    session = sessions.sign_in(database, keys.create_key(database, request).text)

    assert sessions.verify_session(database, session.token)[0].tenant == "acme"
