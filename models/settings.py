"""All settings, resolved in the order flag > environment (`BATCHMILL_…`) > batchmill.toml > default."""

import hashlib
import ipaddress
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models import validation
from models.errors import SettingsError
from models.hardware import device_names
from models.privacy import private_files, urls

CONFIG_NAME = "batchmill.toml"
OTHER_VARIABLES, TEST_VARIABLE_PREFIX = ("API_KEY", "COMMIT", "CONFIG", "FAILPOINT", "URL"), "TEST_"
CAP = "max_unanswered_jobs"
# sun_path holds 108 bytes on Linux and 104 on macOS, including the final NUL.
MAX_SOCKET_PATH_BYTES = 100


def _split_words(raw_value: Any) -> Any:
    """Split a list from the environment at commas and blanks, or parse it as JSON."""
    if not isinstance(raw_value, str):
        return raw_value
    return (
        json.loads(raw_value)
        if raw_value.lstrip().startswith("[")
        else [word for word in re.split(r"[,\s]+", raw_value) if word]
    )


WordList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words)]
FolderList = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_words)]


class Settings(BaseSettings):
    """The settings of an operator, with units in their names; sizes are in jobs, tokens or megabytes."""

    model_config = SettingsConfigDict(
        env_prefix="BATCHMILL_", extra="forbid", frozen=True, env_nested_delimiter="__", hide_input_in_errors=True
    )

    home: Path = Field(default=Path("~/.batchmill"), description="Folder of the embedded database and Valkey.")
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
    source_schemes: WordList = Field(
        default=(),
        description="URL schemes that sources may use: `s3,gs,hf`, with fsspec's package for each; unset: none.",
    )
    source_roots: FolderList | None = Field(
        default=None,
        description="Absolute folders under which source files must lie, links followed: `/data,/more`; unset: any "
        "folder.",
    )
    source_timeout_seconds: float = Field(
        default=60.0, gt=0, description="How long a source behind a URL may be silent."
    )
    max_input_characters: int = Field(
        default=1_000_000, ge=1, le=1_000_000, description="Most characters of one input, all its texts together."
    )
    max_source_bytes: int = Field(
        default=16 * 2**30, ge=1, description="Most bytes of one submission's source, over all its files, decompressed."
    )
    max_source_rows: int = Field(default=100_000_000, ge=1, description="Most rows of one submission's source.")

    file_store: str | None = Field(
        default=None,
        repr=False,
        description="Where servers keep uploaded files: a folder of this machine, or the URL of a store that several "
        "servers share, such as `file:///mnt/files` or `s3://bucket/files`; unset: `files` under home.",
    )
    max_upload_bytes: int = Field(
        default=2 * 2**30, ge=1, description="Most bytes of one uploaded file, as it is sent."
    )
    keep_uploads_days: float = Field(
        default=30.0, gt=0, le=3650, description="After how many days uploaded files are deleted, at the latest."
    )

    max_unanswered_jobs: int | None = Field(
        default=None,
        ge=1,
        description="Most unanswered jobs that one tenant may have in all its batches, unless `[tenants.NAME]` sets "
        "it; unset: any number.",
    )

    slice_size: int = Field(
        default=1024, ge=1, le=65_536, description="Jobs in one slice, the unit of claim and retry."
    )
    linger_ms: float = Field(
        default=20.0,
        ge=0,
        le=10_000,
        description="Milliseconds that a busy process waits for more jobs to share its next claim.",
    )
    max_claim_jobs: int | None = Field(
        default=None,
        ge=1,
        le=262_144,
        description="Most jobs that one claim takes: 4,096 on a CPU, 16,384 on a GPU; unset: by device.",
    )
    target_claim_seconds: float = Field(
        default=10.0, gt=0, description="Seconds of work that a claim aims at, at the measured pace."
    )
    max_prepared_mb: float = Field(
        default=8.0,
        gt=0,
        le=1024,
        description="Megabytes of inputs, or of their tokens, that a worker prepares at a time.",
    )
    devices: str = Field(
        default="auto",
        description="The devices of `up` and `worker`, as for `--devices`: `cuda:0,cuda:1`, `cuda:0*4` or `cpu`.",
    )
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Padded tokens in a micro-batch; tuning starts with 512 to 4,096 on a CPU, by the model's widest "
        "layer, and with 32,768 on a GPU; for generated text with 512 and 16,384; unset: tuned.",
    )
    max_attempts: int = Field(
        default=3,
        ge=3,
        le=100,
        description="Attempts of a job, or crashes of workers over it, until it is a dead letter.",
    )
    retry_base_seconds: float = Field(
        default=1.0, gt=0, description="First backoff of a transient failure; it doubles, with full jitter."
    )
    max_retry_seconds: float = Field(default=300.0, gt=0, description="Longest backoff.")
    forward_timeout_seconds: float = Field(
        default=600.0, gt=0, description="How long one micro-batch may take before its process is ended as hung."
    )

    switch_after_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How long a pipeline's work waits while a process is busy with another pipeline.",
    )
    load_timeout_seconds: float = Field(
        default=3600.0, gt=0, description="How long loading a pipeline may take before its process is ended as hung."
    )
    model_cache_gb: float = Field(
        default=2.0, ge=0, description="Weights of earlier pipelines that a process may keep in memory."
    )

    lease_seconds: float = Field(default=30.0, gt=0, description="How long a claim holds without a heartbeat.")
    heartbeat_seconds: float = Field(default=5.0, gt=0, description="How often a process renews its leases.")
    poll_interval_seconds: float = Field(
        default=2.0, gt=0, description="How often an idle process polls SQL without a wakeup."
    )
    deadline_check_seconds: float = Field(default=2.0, gt=0, description="How often deadlines are checked.")
    wakeup_resend_seconds: float = Field(
        default=5.0, gt=0, description="How often wakeups are resent for work that has none in Redis."
    )
    submit_timeout_seconds: float = Field(
        default=86_400.0, gt=0, description="How long a batch may be `validating` without a sign from its submitter."
    )
    schedule_check_seconds: float = Field(default=2.0, gt=0, description="How often due schedules are looked for.")
    simulated_clock: str | None = Field(
        default=None, description="A simulated clock for schedules; unset: the database's clock."
    )
    retention_days: float | None = Field(
        default=None, ge=0, le=3650, description="Days after which ended batches are deleted; unset: never."
    )
    grace_seconds: float = Field(
        default=30.0, gt=0, description="How long a stopping worker may finish its micro-batch."
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

    serve_host: str = Field(default="127.0.0.1", description="Address that `serve` listens on; the flag is `--host`.")
    serve_port: int = Field(
        default=8000,
        ge=0,
        le=65_535,
        description="Port of `serve`, and the first that `up` tries; 0: any free port for `serve`, no server for "
        "`up`; the flag is `--port`.",
    )
    serve_tls_cert: Path | None = Field(
        default=None, description="Certificate chain of `serve` as a PEM file; unset: plain HTTP."
    )
    serve_tls_key: Path | None = Field(
        default=None, description="Private key of the certificate as a PEM file; unset: none."
    )
    serve_trusted_proxies: WordList = Field(
        default=(),
        description="Addresses and networks of proxies, such as `127.0.0.1` or `10.0.0.0/8`, whose `X-Forwarded-For` "
        "and `X-Forwarded-Proto` are believed; unset: none.",
    )
    cors_origins: WordList = Field(
        default=(),
        description="Origins of web pages that may call the server, such as `https://app.example.com`; unset: none.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Most requests of one API key in a minute; unset: any number."
    )
    max_client_connections: int = Field(
        default=2048, ge=8, le=100_000, description="Most connections of clients that one server keeps open."
    )
    max_concurrent_uploads: int = Field(
        default=16, ge=1, le=1024, description="Most uploads that one server receives at a time."
    )
    slow_client_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a client may take for a request's headers, or to read what it asked for, before it is "
        "disconnected; twice as long for the next 32 KiB of a body.",
    )

    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65_000,
        description="Port on which Prometheus reads the supervisor; its worker processes listen on the ports after "
        "it; unset: none.",
    )
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="The address of these ports.")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`console`, `json`, or `auto`: console on a terminal, JSON elsewhere."
    )
    log_file: Path | None = Field(
        default=None,
        description="File to which `up`, `worker`, `maintain` and `serve` append their log; the flag is "
        "`--log-file`; unset: standard error.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="`debug`, `info`, `warning` or `error`."
    )
    debug: bool = Field(default=False, description="True shows tracebacks.")

    @field_validator("log_file", mode="before")
    @classmethod
    def _unset_empty_path(cls, path: object) -> object:
        # An empty path means the current folder, which is no log file; an empty variable is how deployments unset one.
        return None if path == "" else path

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, devices: str) -> str:
        device_names.parse_devices(devices)
        return devices

    @field_validator("redis_url", "database_url")
    @classmethod
    def _check_url(cls, url: str | None, field: ValidationInfo) -> str | None:
        if url is not None:
            (urls.check_redis_url if field.field_name == "redis_url" else urls.check_database_url)(url)
        return url

    @field_validator("serve_trusted_proxies")
    @classmethod
    def _check_proxies(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"{address[:80]!r} is neither an address nor a network") from None
        return addresses

    @field_validator("webhook_allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if "/" in host or ":" in host:
                try:
                    ipaddress.ip_network(host.strip("[]"), strict=False)
                except ValueError:
                    raise ValueError(f"{host[:80]!r} is neither a host's name nor an address or a network") from None
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

    @field_validator("source_roots")
    @classmethod
    def _check_absolute(cls, folders: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
        for folder in folders or ():
            if not folder.expanduser().is_absolute():
                raise ValueError(f"{str(folder)[:80]!r} is no absolute path, and processes start in many folders")
        return folders

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
    def log_file_path(self) -> Path | None:
        """The absolute path of `log_file`; None = standard error."""
        return self.log_file and self.log_file.expanduser().absolute()

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
        """The embedded Valkey's socket, under home or, if that path is too long, in a private temporary folder."""
        plain = self.home_path / "valkey.sock"
        if len(os.fsencode(plain)) <= MAX_SOCKET_PATH_BYTES:
            return plain
        digest = hashlib.sha256(os.fsencode(self.home_path)).hexdigest()[:16]
        short = Path(f"batchmill-{os.getuid()}-{digest}") / "valkey.sock"
        temporary = Path(tempfile.gettempdir()) / short
        return temporary if len(os.fsencode(temporary)) <= MAX_SOCKET_PATH_BYTES else Path("/tmp") / short  # noqa: S108

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


def model_hashes_file() -> Path:
    """The file that caches hashes of model folders for the next submission."""
    return Path(os.environ.get("BATCHMILL_HOME", "~/.batchmill")).expanduser() / "model-hashes.json"


def settings_place() -> str:
    """Return the path of batchmill.toml with a colon, as the start of a message; empty without such a file."""
    file = config_file()
    return f"{file.absolute()}: " if file else ""


def config_file() -> Path | None:
    """Find the batchmill.toml to use: `BATCHMILL_CONFIG`, else the current folder's, else the one in the home.

    Raises SettingsError if `BATCHMILL_CONFIG` is not a file.
    """
    path = os.environ.get("BATCHMILL_CONFIG")
    if path:
        if not Path(path).is_file():
            raise SettingsError(f"BATCHMILL_CONFIG names {path}, which is not a file")
        return Path(path)
    home = Path(os.environ.get("BATCHMILL_HOME", "~/.batchmill")).expanduser()
    return next((path for path in (Path(CONFIG_NAME), home / CONFIG_NAME) if path.is_file()), None)
