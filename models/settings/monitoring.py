"""Settings of what an operator watches: metrics and the log."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator


class MonitoringSettings(BaseModel):
    """The ports of the metrics, and the log's place, format and level."""

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

    @property
    def log_file_path(self) -> Path | None:
        """The absolute path of `log_file`; None = standard error."""
        return self.log_file and self.log_file.expanduser().absolute()
