"""The definition of a schedule, validated when a person creates or changes it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models import validation
from models.documents import to_json
from models.errors import UsageError
from models.pipelines import redaction
from models.pipelines.pipeline import Pipeline
from models.privacy import urls
from models.tasks.spec import TaskSpec
from producer.readers import DELIMITERS, given_names
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files.source_files import format_from_name
from producer.readers.results.columns import ResultColumns
from producer.readers.results.selection import ResultSelection
from producer.readers.sql.sql_sources import SCHEDULE_PARAMETERS, ParameterValue
from producer.readers.storable import is_storable
from producer.results.tables import user_table
from producer.schedules.timing import cron_fields, deadlines, file_templates, timezones
from producer.schedules.timing.cron import Cron, NoTimes
from producer.schedules.timing.due_times import CatchupPolicy
from producer.submission.request import FAIL_ROW, ON_INVALID, FailureLimit, SubmitRequest
from producer.tenants.principal import DEFAULT_TENANT, check_tenant
from producer.webhooks import webhook_address

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_DEFINITION_LENGTH = 65_536  # characters of a definition as JSON
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
RESERVED_METADATA = ("schedule", "scheduled_at")  # metadata keys that every run's batch gets

OverlapPolicy = Literal["skip", "queue", "allow"]


def _validator_for(check: Callable[[str], object]) -> AfterValidator:
    """Return a validator that runs `check` and keeps the text as it was written."""
    return AfterValidator(lambda text: (_run_check(check, text), text)[1])


def _run_check(check: Callable[..., Any], *args: Any) -> Any:
    try:
        return check(*args)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _int_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text_to_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _parse_names(value: object) -> object:
    return () if value in ((), []) else _run_check(given_names.parse_names, value)


# Fields of schedules that have times of their own, and of those that follow another.
TIMED_FIELDS = ("catchup", "catchup_window", "overlap", "lag", "since", "bind", "format", "column_names")
SELECTION_FIELDS = ("status", "labels", "min_score")

Texts = Annotated[tuple[str, ...], BeforeValidator(_text_to_list)]
Duration = Annotated[str, _validator_for(deadlines.parse_timedelta)]


class ScheduleDefinition(BaseModel):
    """One schedule; durations and times keep their written form, and `cron` is normalized to five fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants", hide_input_in_errors=True
    )

    name: str = Field(pattern=NAME_PATTERN)
    pipeline: str
    cron: Annotated[str, AfterValidator(lambda text: _run_check(cron_fields.normalize, text))] | None = None
    after: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="Another schedule, whose results each run reads."
    )
    tz: Annotated[str, _validator_for(timezones.check_timezone)] = "UTC"
    sql: str | None = Field(default=None, description="The query [sources.NAME] of batchmill.toml.")
    file: str | None = Field(default=None, description="A file's name, or a pattern of several, with {time:%Y-%m-%d}.")
    format: Literal["jsonl", "csv", "tsv", "parquet", "text"] | None = Field(
        default=None, description="Unset: by the name."
    )
    column_names: Annotated[tuple[str, ...], BeforeValidator(_parse_names)] = Field(
        default=(), description="Of all columns of CSV or TSV files without a header, such as text,label."
    )
    status: Texts = Field(default=(), description="Of the results to read: succeeded, failed, …; unset: succeeded.")
    labels: Texts = Field(default=(), description="Read only results with one of these labels.")
    min_score: float | None = Field(default=None, description="Read only results with at least this score.")
    bind: dict[str, ParameterValue] = Field(default_factory=dict, description="Parameters of the query.")
    input: dict[str, str] = Field(default_factory=dict, description="Which column holds a field of the task.")
    id: str | None = Field(default=None, description="Which column holds the ids; unset: custom_id, else id.")
    passthrough: tuple[str, ...] = Field(default=(), description="Columns to keep with each job.")
    params: dict[str, Any] = Field(default_factory=dict, description="Parameters of the task.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Kept with each run's batch.")
    priority: int = 0
    tenant: Annotated[str, _validator_for(check_tenant)] = Field(
        default=DEFAULT_TENANT, description="To whom it and its batches belong."
    )
    on_invalid: Literal[ON_INVALID] = FAIL_ROW  # type: ignore[valid-type]
    max_failures: Annotated[str, BeforeValidator(_int_to_text), _validator_for(FailureLimit.parse)] | None = None
    reuse: bool = Field(default=False, description="Take results that there are for the same input.")
    catchup: CatchupPolicy = Field(default="latest", description="Which missed runs to make up for.")
    catchup_window: Duration = Field(default="24h", description="A run later than this is missed.")
    overlap: OverlapPolicy = Field(default="skip", description="What a run does while the one before it is open.")
    deadline: Annotated[str, _validator_for(deadlines.check_deadline)] | None = Field(
        default=None, description="A duration after the scheduled time, or a time of day or a time in the zone."
    )
    source_timeout: Duration = Field(default="1h", description="How long a run waits for its source.")
    lag: Duration = Field(default="0s", description="How long after they are made rows may take to be seen.")
    since: datetime | None = Field(default=None, description="Where the first run begins; unset: 1970.")
    into: Annotated[str, _validator_for(user_table.check_table_name)] | None = None
    into_source: str | None = Field(default=None, description="Whose database has that table; unset: the results'.")
    alert_drift: float | None = Field(default=None, gt=0, le=1, description="A larger change raises an alert.")
    webhook: Annotated[str, _validator_for(webhook_address.check_webhook_url)] | None = Field(default=None, repr=False)

    @classmethod
    def from_fields(cls, name: str, fields: Mapping[str, Any]) -> Self:
        """Build a definition from a person's input or from `dump`; raises UsageError, which names the field."""
        try:
            return cls.model_validate({**fields, "name": name})
        except ValidationError as error:
            raise UsageError(f"schedule {name[:80]!r}: {_describe_error(error)}") from None

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if (self.cron is None) == (self.after is None):
            raise ValueError("say when it runs: cron, or after another schedule; one of them")
        self._check_source() if self.after is None else self._check_follower()
        if self.into_source is not None and self.into is None:
            raise ValueError("into_source says whose database has the table; name that with into")
        if reserved := [key for key in self.metadata if key in RESERVED_METADATA]:
            raise ValueError(f"metadata {reserved[0]!r} is what the schedule writes itself; take another key")
        if reserved := [name for name in self.bind if name in SCHEDULE_PARAMETERS]:
            raise ValueError(f"bind {reserved[0]!r} is what the schedule binds itself; leave it out")
        if self.file is not None:
            _run_check(file_templates.check_template, self.file, self.timetable)
            name = file_templates.render(self.file, EPOCH, self.timetable)
            file_format = self.format or _run_check(format_from_name, name)
            if self.column_names and file_format not in DELIMITERS:
                raise ValueError(str(given_names.wrong_format("the file", file_format)))
        self._check_storable()
        return self

    @property
    def timetable(self) -> Cron:
        """The scheduled times, as a `Cron`, which has none if the schedule follows another."""
        return NoTimes(zone=self.tz) if self.cron is None else Cron(self.cron, self.tz)

    def format_time(self, instant: datetime) -> str:
        """Format a time for people, in the schedule's zone."""
        return f"{instant.astimezone(self.timetable.zone_info):%a %Y-%m-%d %H:%M %Z}"

    @property
    def max_catchup_age(self) -> timedelta:
        """The longest delay with which a run may still start."""
        return deadlines.parse_timedelta(self.catchup_window)

    @property
    def max_source_wait(self) -> timedelta:
        """The longest time that a run waits for its source."""
        return deadlines.parse_timedelta(self.source_timeout)

    @property
    def lag_duration(self) -> timedelta:
        """The distance by which a run's rows end before its scheduled time."""
        return deadlines.parse_timedelta(self.lag)

    @property
    def initial_since(self) -> datetime:
        """The start of the first run's rows, in UTC; a `since` without a zone is in the schedule's zone."""
        since = self.since or EPOCH
        return (since if since.tzinfo else since.replace(tzinfo=self.timetable.zone_info)).astimezone(UTC)

    def deadline_for(self, scheduled_at: datetime) -> datetime | None:
        """Return the time by which the run should be done, or None without a deadline."""
        return None if self.deadline is None else deadlines.deadline_after(scheduled_at, self.deadline, self.timetable)

    def columns_for(self, spec: TaskSpec) -> ColumnMapping:
        """Return the mapping from the source's columns to the task's fields; raises UsageError."""
        mapping = ColumnMapping if self.after is None else ResultColumns
        return mapping.for_task(spec, self.input, self.id, passthrough=self.passthrough).with_header(
            self.column_names or None
        )

    def selection_from(self, batch_id: str) -> ResultSelection:
        """Return which results of another schedule's batch a run reads; raises UsageError."""
        return ResultSelection.create(batch_id, self.status, self.labels, self.min_score, self.tenant)

    def request_for(self, pipeline: Pipeline, scheduled_at: datetime) -> SubmitRequest:
        """Build the submission of a run; raises UsageError."""
        local = scheduled_at.astimezone(self.timetable.zone_info)
        return SubmitRequest.create(
            pipeline,
            parameters=self.params,
            name=f"{self.name} {local:%Y-%m-%d %H:%M}",
            metadata={**self.metadata, "schedule": self.name, "scheduled_at": scheduled_at.astimezone(UTC).isoformat()},
            priority=self.priority,
            tenant=self.tenant,
            on_invalid=self.on_invalid,
            max_failures=self.max_failures,
            reuse=self.reuse,
        )

    def dump(self) -> dict[str, Any]:
        """Return all fields that differ from their defaults, as JSON types; `from_fields` restores the schedule."""
        return self.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)

    def dump_redacted(self) -> dict[str, Any]:
        """Return `dump` for display: texts in parameters and bound values are hashed, addresses lose their secrets."""
        fields = self.dump()
        if "params" in fields:
            fields["params"] = redaction.redact_parameters(fields["params"])
        if "bind" in fields:
            fields["bind"] = {name: redaction.redact_value(value) for name, value in fields["bind"].items()}
        if "labels" in fields:
            fields["labels"] = [redaction.redact_value(label) for label in fields["labels"]]
        for name, redact in (("webhook", urls.redact_webhook_url), ("file", urls.redact_path)):
            if name in fields:
                fields[name] = redact(fields[name])
        return fields

    def _check_source(self) -> None:
        if (self.sql is None) == (self.file is None):
            raise ValueError("say where its rows come from: sql or file, one of them")
        if self.file is None and self.format is not None:
            raise ValueError("format is of files, and sql names a query")
        if self.file is None and self.column_names:
            raise ValueError(given_names.ONLY_FILES)
        if self.sql is None and (self.bind or self.since or self.lag_duration):
            raise ValueError("bind, since and lag are of queries, and file names files")
        if chosen := [name for name in SELECTION_FIELDS if getattr(self, name) not in ((), None)]:
            raise ValueError(f"{chosen[0]} chooses among the results of another schedule; name that with after")

    def _check_follower(self) -> None:
        if self.sql is not None or self.file is not None:
            raise ValueError("after names the schedule whose results it reads; leave sql and file out")
        if self.after == self.name:
            raise ValueError("a schedule can't run after itself; name another one with after")
        if timed := [name for name in TIMED_FIELDS if name in self.dump()]:
            raise ValueError(
                f"{timed[0]} is of schedules with cron, and this one runs after {self.after}; leave it out"
            )
        _run_check(self.selection_from, self.after)

    def _check_storable(self) -> None:
        fields = self.dump()
        if not all(map(is_storable, _iter_texts(fields))):
            raise ValueError("a text in it has a NUL character or half a surrogate pair, which no database stores")
        try:
            size = len(to_json(fields))
        except ValueError:
            raise ValueError("a number in it is none that JSON has") from None
        if size > MAX_DEFINITION_LENGTH:
            raise ValueError(f"it has {size:,} characters in all; at most {MAX_DEFINITION_LENGTH:,} are kept")


def _iter_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_iter_texts(key), *_iter_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _iter_texts(item)


def _describe_error(error: ValidationError) -> str:
    problem = error.errors()[0]
    field = str(problem["loc"][0]) if problem["loc"] else ""
    if field == "name" and problem["type"] != "missing":
        return "a name has small letters, digits, '.', '_' and '-', at most 63, and begins with a letter or digit"
    if problem["type"].startswith("datetime"):
        return f"{field}: that is no time such as 2026-11-24 or 2026-11-24T02:00+01:00"
    return validation.describe_problems(error, ScheduleDefinition)
