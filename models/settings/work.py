"""Settings of the work on slices: claims, micro-batches, retries, leases and maintenance."""

from pydantic import BaseModel, Field, field_validator

from models.hardware import device_names


class WorkSettings(BaseModel):
    """How workers take and do their work, and how often they look for it; sizes are in jobs, tokens or megabytes."""

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

    @field_validator("devices")
    @classmethod
    def _check_devices(cls, devices: str) -> str:
        device_names.parse_devices(devices)
        return devices
