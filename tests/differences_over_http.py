"""Where a client over HTTP differs from one over SQL, in one place; the tests that name a difference run over SQL."""

import pytest

DIFFERENCES = {
    "no_tables": "to_sql raises UsageError: a server writes no tables for its clients",
    "tables_come_whole": "iter_arrow reads a temporary Parquet file, which is received before the first rows are read",
    "broken_off": "an output unlike the first ends an export with UsageError, as over SQL, but without its position",
    "no_settings": "settings, catalogue and database raise UsageError: they are the server's",
    "queries_of_the_server": "sql names a query of the server's batchmill.toml, that its operator allows to the tenant",
    "unencodable": "a value that JSON has not is sent as half a surrogate pair, which a failed job's message names",
    "keys_per_tenant": "batches(tenant=…) raises UsageError: the key says whose batches are listed",
    "warnings": "what a submission warns of is the handle's `warning` and is not logged by the client",
}


def over_sql_only(difference: str) -> pytest.MarkDecorator:
    """Let a test with the fixture `client` run over SQL only, because of one of the differences."""
    assert difference in DIFFERENCES
    return pytest.mark.parametrize("client", ["sql"], indirect=True)
