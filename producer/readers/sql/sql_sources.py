"""Queries: the SQL sources that an operator allows, by name; nobody submits a query of their own."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from sqlalchemy import text

from models.errors import SettingsError, UsageError
from models.privacy import urls
from models.settings import Settings, config_file

SQLITE_PREFIX = "sqlite:///"

ParameterValue = str | int | float | bool | None

# What a schedule binds where its query names them: when the run was due, and that rows are new from when on until when.
SCHEDULE_PARAMETERS = ("slot", "since", "until")


class SqlSource(BaseModel):
    """One `[sources.NAME]` of batchmill.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    url: str = Field(
        min_length=1,
        repr=False,
        description="PostgreSQL or SQLite, as database_url; may stand in the environment. A relative path is one from "
        "batchmill.toml.",
    )
    query: str = Field(min_length=1, description="One SELECT, with an ORDER BY; :name stands for a parameter.")
    parameters: dict[str, ParameterValue] = Field(
        default_factory=dict, description="Where `--bind` does not give its own."
    )
    timeout_seconds: float = Field(default=300.0, gt=0, description="How long the next rows may be waited for.")

    @field_validator("url")
    @classmethod
    def _is_usable(cls, url: str) -> str:
        urls.check_database_url(url)
        return url

    @property
    def parameter_names(self) -> list[str]:
        """The parameters that it asks for."""
        return sorted(text(self.query).compile().params)

    def bind(
        self, arguments: Mapping[str, Any], schedule_times: Mapping[str, datetime] | None = None
    ) -> dict[str, ParameterValue | datetime]:
        """The values of all parameters; raises UsageError, naming those that there are.

        `moments` are the MOMENTS of a schedule's run: none of them can be given, and none need be asked for.
        """
        names, schedule_times = self.parameter_names, schedule_times or {}
        for name, value in arguments.items():
            if name in schedule_times:
                raise UsageError(f"parameter {name!r} of the source {self.name!r} is the schedule's own; leave it out")
            if name not in names:
                raise UsageError(f"the source {self.name!r} has no parameter {name!r}; it has: {_join_names(names)}")
            if not isinstance(value, str | int | float | bool | None):
                raise UsageError(f"parameter {name!r} of the source {self.name!r} must be text, a number or null")
        values = {**self.parameters, **arguments, **schedule_times}
        missing = [name for name in names if name not in values]
        if missing:
            raise UsageError(f"the source {self.name!r} needs {_join_names(missing)}: --bind {missing[0]}=VALUE")
        return {name: values[name] for name in names}


def find_sql_source(settings: Settings, name: str) -> SqlSource:
    """The source of this name; raises UsageError, or SettingsError naming the field that is wrong."""
    if name not in settings.sources:
        known = f"there are: {_join_names(sorted(settings.sources))}" if settings.sources else "there are none"
        raise UsageError(f"there is no source {name!r}; {known}; an operator adds [sources.{name}] to batchmill.toml")
    try:
        query = SqlSource(**{**settings.sources[name], "name": name})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise SettingsError(f"[sources.{name}] {field}: {problem['msg'].removeprefix('Value error, ')}") from None
    return query.model_copy(update={"url": _with_absolute_path(query.url)})


def _with_absolute_path(url: str) -> str:
    """The URL with a SQLite file's path from the root on: who runs schedules may stand in another folder."""
    path = url.removeprefix(SQLITE_PREFIX)
    found = config_file()
    if found is None or path == url or not path or path.startswith(("/", "~", ":", "file:")):
        return url
    return f"{SQLITE_PREFIX}{found.absolute().parent / path}"


def _join_names(names: list[str]) -> str:
    return ", ".join(names) or "none"
