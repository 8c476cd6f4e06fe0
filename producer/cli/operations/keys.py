"""`batchmill keys` creates, lists and revokes the API keys of a server."""

from collections.abc import Sequence

import click

from models.errors import UsageError
from models.privacy import terminal
from models.settings import Settings
from producer import times
from producer.cli import common
from producer.tenants import keys as api_keys
from producer.tenants.keys import KeyRequest, KeyView
from producer.tenants.principal import Scope

HEADER = ("ID", "TENANT", "MAY", "STATE", "CREATED", "EXPIRES", "LAST USED", "NAME")
DEFAULT_SCOPES = f"{Scope.READ},{Scope.SUBMIT}"


@click.group(short_help="Manage the API keys of the server.")
def keys() -> None:
    """Manage the API keys of `batchmill serve`. Once there is a key, each request needs one."""


@keys.command(short_help="Create a key, and print it once.")
@click.option("--tenant", metavar="NAME", help="To whom its batches, files and schedules belong.")
@click.option("--all-tenants", is_flag=True, help="The key sees those of every tenant; its own belong to `default`.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=(DEFAULT_SCOPES,),
    show_default=True,
    metavar="SCOPES",
    help="What the key may do: read, submit, admin; none includes another.",
)
@click.option("--expires", metavar="WHEN", help="When it ends: after 90d, or at 2027-11-25; without it never.")
@click.option("--name", metavar="TEXT", help="What it is for.")
@common.json_option
def create(
    tenant: str | None, all_tenants: bool, scopes: Sequence[str], expires: str | None, name: str | None, as_json: bool
) -> None:
    """Create a key and print it: only a hash is stored, so it can't be shown again."""
    if (tenant is None) is not all_tenants:
        raise UsageError("name the key's tenant with --tenant NAME, or say --all-tenants")
    request = KeyRequest(
        tenant,
        api_keys.parse_scopes(scope for names in scopes for scope in names.split(",")),
        name,
        None if expires is None else api_keys.parse_expiry(expires),
    )
    with common.open_database(Settings.load()) as database:
        key = api_keys.create_key(database, request)
    if as_json:
        terminal.echo_json({**key.view.as_dict(), "key": key.text})
        return
    click.echo(key.text)
    terminal.print_notice(f"keep it: it is shown only now; to end it: batchmill keys revoke {key.view.id}")


@keys.command(short_help="List the keys.")
@click.option("--tenant", metavar="NAME", help="Only keys of this tenant.")
@common.json_option
def ls(tenant: str | None, as_json: bool) -> None:
    """List the keys without their secrets, the oldest first, also those that have ended."""
    with common.open_database(Settings.load()) as database:
        views = api_keys.list_keys(database, tenant)
    if as_json:
        terminal.echo_list([view.as_dict() for view in views])
    elif views:
        click.echo(terminal.format_table(HEADER, [_table_row(view) for view in views]))
    else:
        terminal.print_notice("there are no keys; make one: batchmill keys create --tenant NAME")


@keys.command(short_help="End a key.")
@click.argument("key_id", metavar="ID")
@common.json_option
def revoke(key_id: str, as_json: bool) -> None:
    """End the key ID. Servers refuse it within a few seconds; revoking the last key does not open a server."""
    with common.open_database(Settings.load()) as database:
        view = api_keys.revoke_key(database, key_id)
    if as_json:
        terminal.echo_json(view.as_dict())
    else:
        terminal.print_notice(f"the key {view.id} is revoked; servers refuse it within a few seconds")


def _table_row(view: KeyView) -> list[object]:
    moments = (view.created_at, view.expires_at, view.last_used_at)
    scopes = ",".join(scope.value for scope in view.scopes)
    return [view.id, view.tenant or "(all)", scopes, view.state, *map(times.format_local, moments), view.name]
