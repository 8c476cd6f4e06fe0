"""Queries: the SQL sources that an operator allows, by name; nobody submits a query of their own."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import text

from models.errors import SettingsError, UsageError
from models.settings import Settings

Value = str | int | float | bool | None


class Query(BaseModel):
    """One `[sources.NAME]` of batchmill.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    url: str = Field(min_length=1, description="PostgreSQL or SQLite, as database_url; may stand in the environment.")
    query: str = Field(min_length=1, description="One SELECT, with an ORDER BY; :name stands for a parameter.")
    parameters: dict[str, Value] = Field(default_factory=dict, description="Where `--bind` does not give its own.")
    timeout_seconds: float = Field(default=300.0, gt=0, description="How long the next rows may be waited for.")

    def bound(self, given: dict[str, Any]) -> dict[str, Value]:
        """The values of all parameters; raises UsageError, naming those that there are."""
        names = sorted(text(self.query).compile().params)
        for name, value in given.items():
            if name not in names:
                raise UsageError(f"the source {self.name!r} has no parameter {name!r}; it has: {_listed(names)}")
            if not isinstance(value, str | int | float | bool | None):
                raise UsageError(f"parameter {name!r} of the source {self.name!r} must be text, a number or null")
        values = {**self.parameters, **given}
        missing = [name for name in names if name not in values]
        if missing:
            raise UsageError(f"the source {self.name!r} needs {_listed(missing)}: --bind {missing[0]}=VALUE")
        return {name: values[name] for name in names}


def find(settings: Settings, name: str) -> Query:
    """The source of this name; raises UsageError, or SettingsError naming the field that is wrong."""
    if name not in settings.sources:
        known = f"there are: {_listed(sorted(settings.sources))}" if settings.sources else "there are none"
        raise UsageError(f"there is no source {name!r}; {known}; an operator adds [sources.{name}] to batchmill.toml")
    try:
        return Query(**{**settings.sources[name], "name": name})
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise SettingsError(f"[sources.{name}] {field}: {problem['msg']}") from None


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
