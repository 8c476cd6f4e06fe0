"""Settings of the HTTP server."""

from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from models.settings.lists import WordList, is_network


class ServerSettings(BaseModel):
    """Where `serve` listens, whom it believes, and how much a client may ask of it."""

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

    @field_validator("serve_trusted_proxies")
    @classmethod
    def _check_proxies(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            if not is_network(address):
                raise ValueError(f"{address[:80]!r} is neither an address nor a network")
        return addresses
