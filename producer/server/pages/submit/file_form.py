"""The form of one uploaded file: what was understood of it, and what its fields have."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from models.errors import NotFound, UsageError
from models.pipelines.pipeline import Pipeline
from producer.server.context import ServerContext
from producer.server.native.batches.submission.submission_options import SubmissionOptions
from producer.server.native.batches.submission.submitting import Submission
from producer.server.pages.access.visitor import Visitor
from producer.server.pages.submit import option_form, pipeline_choices, problems
from producer.server.pages.submit.option_form import COLUMN, PARAMETER, FormValues, Pairs
from producer.server.pages.submit.parameter_fields import ParameterField, parameter_fields
from producer.server.pages.submit.pipeline_choices import PipelineChoice
from producer.server.pages.submit.row_problems import group_problems
from producer.uploads import file_uses, files
from producer.uploads.file_uses import UNUSED, FileUse
from producer.uploads.files import FileView
from producer.uploads.previews.column_guess import guess_columns
from producer.uploads.previews.preview import ColumnSummary, Preview
from producer.uploads.storage.store import open_store
from producer.workers import workers
from producer.workers.model_checks import other_settings_warning

OPTIONS = ("name", "deadline", "max_failures", "metadata", "priority", "webhook_url", "on_invalid", "reuse")


@dataclass(frozen=True, slots=True)
class FileForm:
    """The form of one file.

    choice: the pipeline; None = none exists
    columns: the column of each field of the task, chosen or guessed; empty texts = none
    key: of idempotency, so that the form makes one batch however often it is sent
    warnings: why the batch would wait
    use: the batches that were made from the file before
    """

    file: FileView
    preview: Preview
    values: FormValues
    choice: PipelineChoice | None
    columns: dict[str, str] = field(default_factory=dict)
    parameters: list[ParameterField] = field(default_factory=list)
    key: str = field(default_factory=problems.new_key)
    warnings: tuple[str, ...] = ()
    use: FileUse = UNUSED

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline; raises UsageError if there is none."""
        if self.choice is None:
            raise UsageError("no pipeline exists; add one to batchmill.toml")
        return self.choice.pipeline

    @property
    def is_readable(self) -> bool:
        """Whether any row could be read, and is one that this form submits."""
        return bool(self.preview.sampled_rows) and self.preview.error is None and not self.preview.is_openai_format

    @property
    def unreadable(self) -> list[str]:
        """A sentence for each problem of the first rows that can't be read."""
        return group_problems(self.preview.problems)

    @property
    def shown_columns(self) -> list[ColumnSummary]:
        """The columns of the preview: the first of the file, and those that are inputs."""
        chosen = self.columns.values()
        return [column for column in self.preview.columns.values() if column.is_shown or column.name in chosen]

    @property
    def field_names(self) -> list[str]:
        """The names of the fields of the form."""
        columns = [COLUMN + item.name for item in self.pipeline.spec.fields]
        return [*columns, *(PARAMETER + item.name for item in self.parameters), "id_column", *OPTIONS]

    def submission(self, context: ServerContext, visitor: Visitor) -> Submission:
        """The submission that the form means; raises UsageError."""
        return Submission(context, visitor.principal, self._options(), self.key, is_from_page=True)

    def _options(self) -> SubmissionOptions:
        wanted, preview = self.values.get("pipeline"), self.preview
        if wanted and wanted != self.pipeline.name:  # the form shows another instead
            raise UsageError(f"there is no pipeline {wanted[:80]!r}; choose one of the list")
        if preview.is_openai_format:
            raise UsageError("the file is in OpenAI's batch format; create its batch over /v1/batches")
        texts = {**self.values.texts, **{COLUMN + name: column for name, column in self.columns.items()}}
        values = FormValues(texts, self.values.kept)
        return option_form.parse(
            values,
            self.pipeline,
            self.parameters,
            self.file,
            preview.file_format,
            has_bare_texts=preview.has_bare_texts and len(preview.columns) == 1,
        )


def load_form(context: ServerContext, visitor: Visitor, file_id: str, pairs: Pairs) -> FileForm:
    """Return the form of a file; raises NotFound for the file of another tenant, or for one of results.

    pairs: what the address or the form has in its fields
    """
    file = files.get_file(context.database, file_id, visitor.principal.tenant)
    if file.location is None or file.purpose != files.PURPOSE_BATCH:
        raise NotFound(f"{file.id} has the results of a batch, which are on the page of the batch")
    values = FormValues.of(pairs)
    settings, use = context.settings, file_uses.find_uses(context.database, [file.id]).get(file.id, UNUSED)
    wanted_format, names = values.get("file_format") or None, values.get("column_names")
    preview = context.previews.get(settings, open_store(settings), file, wanted_format, names)
    views = workers.list_workers(context.database, settings.lease_seconds)
    served = workers.count_serving(views)
    name = pipeline_choices.choose(context.catalogue, values.get("pipeline") or None, served)
    if name is None:
        return FileForm(file, preview, values, None, use=use)
    pipeline = context.catalogue[name]
    choice = pipeline_choices.describe(pipeline, served, visitor.principal.tenant)
    return FileForm(
        file,
        preview,
        values,
        choice,
        columns=_columns(pipeline, preview, values),
        parameters=parameter_fields(pipeline),
        key=problems.checked_key(values.get(option_form.KEY)),
        warnings=tuple(_warnings(pipeline, choice, visitor, views)),
        use=use,
    )


def _columns(pipeline: Pipeline, preview: Preview, values: FormValues) -> dict[str, str]:
    """The column of each field: the one that is chosen, or else the one that is guessed.

    An optional field has the column of its name, if there is one, as a submission has it.
    """
    guessed = guess_columns(pipeline.spec, preview.columns.values())
    columns = {}
    for item in pipeline.spec.fields:
        column = values.column(item.name) if values.has(COLUMN + item.name) else guessed.get(item.name, "")
        is_named = not item.required and item.name in preview.columns
        columns[item.name] = item.name if is_named and not column else column
    return columns


def _warnings(
    pipeline: Pipeline, choice: PipelineChoice, visitor: Visitor, views: Iterable[workers.WorkerView]
) -> Iterable[str]:
    if not choice.workers:
        yield f"no worker serves {pipeline.name} now; the batch waits until one does"
    elif visitor.is_operator and (warning := other_settings_warning(pipeline, views)) is not None:
        yield warning
