"""The class of all settings, put together from those of inputs, of work, of the server and of monitoring."""

import os
from collections.abc import Mapping
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from models import validation
from models.errors import SettingsError
from models.privacy import private_files, urls
from models.settings import home_folder
from models.settings.config_file import config_file, settings_place
from models.settings.inputs import InputSettings
from models.settings.lists import WordList, is_network
from models.settings.monitoring import MonitoringSettings
from models.settings.server import ServerSettings
from models.settings.work import WorkSettings

OTHER_VARIABLES, TEST_VARIABLE_PREFIX = ("API_KEY", "COMMIT", "CONFIG", "FAILPOINT", "URL"), "TEST_"
CAP = "max_unanswered_jobs"


class Settings(InputSettings, WorkSettings, ServerSettings, MonitoringSettings, BaseSettings):
    """The settings of an operator, with units in their names."""

    model_config = SettingsConfigDict(
        env_prefix="BATCHMILL_", extra="forbid", frozen=True, env_nested_delimiter="__", hide_input_in_errors=True
    )

    home: Path = Field(
        default=Path(home_folder.DEFAULT_HOME), description="Folder of the embedded database and Valkey."
    )
    database_url: str | None = Field(
        default=None, repr=False, description="`postgresql://…` or `sqlite:///…`; unset: SQLite in home."
    )
    redis_url: str | None = Field(
        default=None, repr=False, description="`redis://…`, `rediss://…` or `unix://…`; unset: the embedded Valkey."
    )
    pipelines: dict[str, dict[str, Any]] = Field(default_factory=dict, description="Added or overridden pipelines.")
    sources: dict[str, dict[str, Any]] = Field(
        default_factory=dict, repr=False, description="Queries that `submit --sql` and schedules may name."
    )
    schedules: dict[str, dict[str, Any]] = Field(
        default_factory=dict, repr=False, description="What `schedule sync` makes schedules of."
    )
    tenants: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings of single tenants: `max_unanswered_jobs`."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Signs the webhooks of batches and schedules; it is never shown; unset: none."
    )
    webhook_allowed_hosts: WordList = Field(
        default=(),
        description="Hosts, addresses and networks that webhooks may call although they are not public; unset: none.",
    )
    redis_timeout_seconds: float = Field(
        default=3.0,
        gt=0,
        description="How long sending wakeups may take; after that, workers find the work by polling SQL.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="How long connecting to the database may take."
    )
    database_behind_pooler: bool = Field(
        default=False, description="True where a pooler such as PgBouncer gives each transaction another session."
    )
    max_unanswered_jobs: int | None = Field(
        default=None,
        ge=1,
        description="Most unanswered jobs that one tenant may have in all its batches, unless `[tenants.NAME]` sets "
        "it; unset: any number.",
    )

    @field_validator("redis_url", "database_url")
    @classmethod
    def _check_url(cls, url: str | None, field: ValidationInfo) -> str | None:
        if url is not None:
            (urls.check_redis_url if field.field_name == "redis_url" else urls.check_database_url)(url)
        return url

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if ("/" in host or ":" in host) and not is_network(host.strip("[]")):
                raise ValueError(f"{host[:80]!r} is neither a host's name nor an address or a network")
        return hosts

    @field_validator("tenants")
    @classmethod
    def _check_tenants(cls, tenants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, fields in tenants.items():
            for field, value in fields.items():
                if field != CAP:
                    raise ValueError(f"there is no field {field[:80]!r} of tenant {name[:80]!r}; it takes: {CAP}")
                if not str(value).isdecimal() or int(value) < 1:
                    raise ValueError(f"{CAP} of tenant {name[:80]!r} must be a whole number of at least 1")
        return tenants

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, then the environment, then the first batchmill.toml found."""
        path = config_file()
        toml = (TomlConfigSettingsSource(settings_cls, path),) if path else ()
        return (init_settings, env_settings, *toml)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read all sources; raises SettingsError, which names each invalid setting."""
        try:
            return cls(**{name: value for name, value in flags.items() if value is not None})
        except ValidationError as error:
            problems = validation.describe_problems(error, cls, "there is no setting", "setting")
            names = {f"{cls.model_config['env_prefix']}{problem['loc'][0]}".upper() for problem in error.errors()}
            place = "" if names <= {variable.upper() for variable in os.environ} else settings_place()
            raise SettingsError(f"{place}{problems}") from None
        except TOMLDecodeError as error:
            raise SettingsError(f"{settings_place()}it is no valid TOML: {error}") from None
        except ValueError as error:  # from invalid JSON in the environment
            raise SettingsError(f"settings can't be read: {error}") from None

    @property
    def home_path(self) -> Path:
        """The absolute path of `home`."""
        return self.home.expanduser().absolute()

    def unanswered_jobs_cap(self, tenant: str) -> int | None:
        """The most unanswered jobs that a tenant may have; None = any number."""
        cap = self.tenants.get(tenant, {}).get(CAP)
        return self.max_unanswered_jobs if cap is None else int(cap)

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database, including its driver."""
        return urls.with_driver(self.database_url or f"sqlite:///{self.home_path / 'batchmill.db'}")

    @property
    def database_is_embedded(self) -> bool:
        """Whether no database was named; the embedded one upgrades itself."""
        return self.database_url is None

    @property
    def broker_url(self) -> str:
        """The URL of Redis in kombu's spelling (`redis+socket://` for a socket)."""
        if self.redis_url is None:
            return f"redis+socket://{self.embedded_socket_path}"
        if self.redis_url.startswith("unix:"):
            return "redis+socket" + self.redis_url.removeprefix("unix")
        return self.redis_url

    @property
    def embedded_socket_path(self) -> Path:
        """The path of the embedded Valkey's socket."""
        return home_folder.embedded_socket_path(self.home_path)

    @property
    def untrusted_socket_reason(self) -> str | None:
        """The reason not to trust the embedded Valkey's socket if it is outside home; None = it can be used."""
        folder = self.embedded_socket_path.parent
        return None if folder == self.home_path else private_files.untrusted_reason(folder)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each `BATCHMILL_…` variable that names no setting, with the nearest one."""
    prefix, names = Settings.model_config["env_prefix"], [name.upper() for name in Settings.model_fields]
    problems = []
    for variable in sorted(environment):
        name = variable.upper().removeprefix(prefix)
        is_ours = variable.upper().startswith(prefix) and not name.startswith(TEST_VARIABLE_PREFIX)
        if is_ours and name.partition("__")[0] not in (*names, *OTHER_VARIABLES):
            setting = validation.nearest(name, names)
            meant = f"; is {prefix}{setting} meant?" if setting else ""
            problems.append(f"the environment variable {variable[:80]} names no setting{meant}")
    return problems
