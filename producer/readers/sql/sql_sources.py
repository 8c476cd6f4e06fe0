"""SQL sources are queries that an operator allows by name; submitters can't write their own."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import text

from models import validation
from models.errors import SettingsError, UsageError
from models.privacy import urls
from models.settings import Settings, config_file, settings_place
from producer.tenants.principal import ALL_TENANTS, DEFAULT_TENANT

SQLITE_PREFIX = "sqlite:///"

ParameterValue = str | int | float | bool | None

# A schedule binds these if its query names them: the run's scheduled time, and the period of its new rows.
SCHEDULE_PARAMETERS = ("scheduled_at", "since", "until")


class SqlSource(BaseModel):
    """One `[sources.NAME]` of batchmill.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    url: str = Field(
        min_length=1,
        repr=False,
        description="PostgreSQL or SQLite, as database_url; may come from the environment. A relative path starts at "
        "batchmill.toml.",
    )
    query: str = Field(min_length=1, description="One SELECT, with an ORDER BY; :name stands for a parameter.")
    parameters: dict[str, ParameterValue] = Field(
        default_factory=dict, description="Defaults for what `--bind` does not give."
    )
    timeout_seconds: float = Field(default=300.0, gt=0, description="The time in which the next rows must arrive.")
    tenants: list[str] = Field(
        default_factory=list, description="Tenants who may name it over HTTP, beside `default`; `*` = all."
    )

    @field_validator("url")
    @classmethod
    def _is_usable(cls, url: str) -> str:
        urls.check_database_url(url)
        return url

    @property
    def label(self) -> str:
        """The source's name in messages."""
        return f"the source {self.name!r}"

    @property
    def parameter_names(self) -> list[str]:
        """The names of the query's parameters."""
        return sorted(text(self.query).compile().params)

    def bind(
        self, arguments: Mapping[str, Any], schedule_times: Mapping[str, datetime] | None = None
    ) -> dict[str, ParameterValue | datetime]:
        """The values of all parameters; raises UsageError for one that is missing, unknown or of a wrong type.

        arguments: values that override the source's `parameters`.
        schedule_times: a run's SCHEDULE_PARAMETERS, which `arguments` can't override and the query need not name.
        """
        names, schedule_times = self.parameter_names, schedule_times or {}
        for name, value in arguments.items():
            if name in schedule_times:
                raise _bind_error(f"parameter {name!r} of {self.label} is set by the schedule; leave it out")
            if name not in names:
                raise _bind_error(f"{self.label} has no parameter {name[:80]!r}; it has: {_join_names(names)}")
            if not isinstance(value, str | int | float | bool | None):
                raise _bind_error(f"parameter {name!r} of {self.label} must be text, a number or null")
        values = {**self.parameters, **arguments, **schedule_times}
        missing = [name for name in names if name not in values]
        if missing:
            raise _bind_error(f"{self.label} needs {_join_names(missing)}; bind {missing[0]}=VALUE")
        return {name: values[name] for name in names}


def _bind_error(message: str) -> UsageError:
    return UsageError(message, param="bind")


def find_sql_source(settings: Settings, name: str, tenant: str = DEFAULT_TENANT) -> SqlSource:
    """The source of this name; raises UsageError, or SettingsError naming an invalid field.

    tenant: who names it; a source that is not for this tenant does not exist
    """
    names = [key for key, source in settings.sources.items() if _is_for_tenant(source, tenant)]
    if name not in names:
        others = f"there are: {_join_names(sorted(names))}" if names else "there are none"
        adding = f"an operator adds [sources.{name[:80]}] to batchmill.toml"
        raise UsageError(f"there is no source {name[:80]!r}; {others}; {adding}", param="sql")
    try:
        source = SqlSource(**{**settings.sources[name], "name": name})
    except ValidationError as error:
        problems = validation.describe_problems(error, SqlSource)
        raise SettingsError(f"{settings_place()}[sources.{name}] {problems}") from None
    return source.model_copy(update={"url": _with_absolute_path(source.url)})


def _is_for_tenant(source: Mapping[str, Any], tenant: str) -> bool:
    tenants = source.get("tenants", ())
    return tenant == DEFAULT_TENANT or (isinstance(tenants, list) and (tenant in tenants or ALL_TENANTS in tenants))


def _with_absolute_path(url: str) -> str:
    """The URL with an absolute path to a SQLite file, because schedules may run in another folder."""
    path = url.removeprefix(SQLITE_PREFIX)
    config = config_file()
    if config is None or path == url or not path or path.startswith(("/", "~", ":", "file:")):
        return url
    return f"{SQLITE_PREFIX}{config.absolute().parent / path}"


def _join_names(names: list[str]) -> str:
    return ", ".join(names) or "none"
