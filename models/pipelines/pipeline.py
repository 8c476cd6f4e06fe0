"""A pipeline: a task with its exact model, revision, load options and limits."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, model_validator

from models import operator_code, tasks
from models.errors import InvalidParameters, JobError
from models.pipelines.entry import CatalogueEntry
from models.pipelines.options import prompt_template
from models.pipelines.options.generation_limits import GenerationLimits
from models.pipelines.options.prompt_template import PROMPT, SYSTEM, PromptTemplate
from models.pipelines.options.quantization import ENLARGE_FLOAT_DIFFERENCES
from models.tasks.generation.decoding import DecodingParameters
from models.tasks.generic import transformers_pipeline
from models.tasks.generic.transformers_pipeline import TRANSFORMERS_PIPELINE
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.spec import TaskSpec, WindowAggregation
from models.tasks.text_generation import TEXT_GENERATION

BUNDLED_PREFIX = "bundled:"
HASH_DIGITS = 16
# A batch records the templates, so workers take them from there.
NOT_HASHED = {
    "name",
    "parameters",
    "examples",
    "prompt",
    "system",
    "max_attempts",
    "licence",
    "description",
    "offload_folder",
}
# They came after the first hashes, and an entry without them keeps its hash.
HASHED_IF_SET = ("device_map", "max_memory", "adapter", "adapter_revision", "logits_processors", "registered_by")
BASE_FIELDS = ("task", "model", "revision", "dtype", "quantization", "attention", "device", "device_map")
COMMIT = re.compile(r"[0-9a-f]{40}")
REVISION_SEPARATOR = "+"  # between the revisions of a model and of its adapter
SAMPLES_FOLDER = Path(__file__).resolve().parents[1] / "samples"


class Pipeline(CatalogueEntry):
    """An entry of the catalogue, and what follows from it."""

    _guard_pipelines: dict[str, "Pipeline"] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_device_map(self) -> Self:
        for name in ("max_memory", "offload_folder"):
            if getattr(self, name) is not None and self.device_map is None:
                raise ValueError(f'{name} has no effect without device_map; set device_map = "auto", or leave it out')
        if self.device_map is None:
            return self
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device_map does not go with device {self.device}; write auto, cuda or cpu")
        if self.quantization is not None:
            raise ValueError("device_map does not go with quantization; leave one of them out")
        return self

    @model_validator(mode="after")
    def _check_windows(self) -> Self:
        for name in ("stride", "window_aggregation"):
            if getattr(self, name) is not None and self.truncation != "stride":
                raise ValueError(f'{name} has no effect without truncation = "stride"; set it, or leave {name} out')
        if self.truncation == "stride" and not self.spec.supports_stride:
            raise ValueError(f"{self.task} can't read a text in windows; set truncation to truncate or error")
        if self.window_aggregation is not None and not self.spec.aggregates_windows:
            raise ValueError(f"{self.task} does not aggregate the scores of windows; leave window_aggregation out")
        return self

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if self.adapter_revision is not None and self.adapter is None:
            raise ValueError("adapter_revision has no effect without adapter; set it, or leave the revision out")
        if self.adapter is None:
            return self
        if self.device_map is not None:
            raise ValueError("adapter does not go with device_map; merge it into the model, or leave device_map out")
        if self.quantization in ENLARGE_FLOAT_DIFFERENCES and not self.deterministic:
            raise ValueError(
                f"adapter goes with quantization {self.quantization} only if deterministic = true, because answers "
                "would depend on the other rows; set it, or leave quantization out"
            )
        if self.adapter.startswith(BUNDLED_PREFIX):
            raise ValueError("adapter is a Hub id or a folder; no adapter is bundled")
        if self.adapter_folder is not None:
            return self
        if not COMMIT.fullmatch(self.adapter_revision or ""):
            raise ValueError(
                "adapter_revision must be a full commit of the Hub, 40 hexadecimal digits, because a batch has one "
                "revision of its adapter; set it, or name a folder"
            )
        return self

    @model_validator(mode="after")
    def _check_task_options(self) -> Self:
        if self.tokenizer_revision is not None and self.tokenizer is None:
            raise ValueError("tokenizer_revision has no effect without tokenizer; set it, or leave the revision out")
        if self.limits is not None and self.generation_limits is None:
            raise ValueError(f"{self.task} has no limits, which are for text-generation; leave them out")
        if self.logits_processors and not issubclass(tasks.find_spec(self.task).parameters, DecodingParameters):
            raise ValueError(f"{self.task} generates no text, so logits_processors have no effect; leave them out")
        if self.registered_by is not None and tasks.find_spec(self.task) is not TRANSFORMERS_PIPELINE:
            raise ValueError(f"{self.task} is no transformers:NAME, so registered_by has no effect; leave it out")
        if self.examples:
            self._check_examples()
        if self.template is not None:
            self.template.check_task(tasks.find_spec(self.task))
        try:
            self._check_own_parameters()
        except InvalidParameters as error:
            raise ValueError(str(error)) from None
        return self

    def _check_examples(self) -> None:
        if tasks.find_spec(self.task) is not TRANSFORMERS_PIPELINE:
            raise ValueError(f"{self.task} is no transformers:NAME, so examples have no effect; leave them out")
        for place, example in enumerate(self.examples):
            try:
                TRANSFORMERS_PIPELINE.normalise(example)
            except JobError as error:
                raise ValueError(f"examples[{place}]: {error}") from None

    def _check_own_parameters(self) -> None:
        if isinstance(self.spec, OwnTaskSpec):
            self.spec.check_entry_parameters(self.parameters)
        else:
            self.check_parameters(self.parameters)

    @property
    def settings_hash(self) -> str:
        """A hash of what a worker takes from this entry; folders count by their names, which machines share."""
        fields = self.model_dump(exclude=NOT_HASHED)
        fields = {name: value for name, value in fields.items() if value not in (None, ()) or name not in HASHED_IF_SET}
        if self.guards:
            # Guards run in their order.
            fields["guards"] = list(fields["guards"].items())
            fields["guard_pipelines"] = {
                name: (entry.settings_hash, entry.parameters) for name, entry in self.guard_pipelines.items()
            }
        else:
            del fields["guards"]
        if code := self.operator_code:
            fields["operator_code"] = code
        for key in ("model", "tokenizer", "adapter"):
            if _model_folder(fields.get(key) or "") is not None:
                fields[key] = Path(fields[key]).name
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]

    @property
    def operator_code(self) -> dict[str, str | None]:
        """The versions of the operator's own code that computes its outputs; None = it is not installed here."""
        spec = tasks.find_spec(self.task)
        versions: dict[str, str | None] = {"task": spec.code_version} if isinstance(spec, OwnTaskSpec) else {}
        references = (*self.logits_processors, *filter(None, [self.registered_by]))
        return versions | {reference: operator_code.code_version(reference) for reference in references}

    @property
    def guard_pipelines(self) -> Mapping[str, "Pipeline"]:
        """The catalogue's pipelines that its guards name; the catalogue sets them."""
        return self._guard_pipelines

    def with_guard_pipelines(self, catalogue: Mapping[str, "Pipeline"]) -> "Pipeline":
        """Return the same pipeline with those of the catalogue's pipelines that its guards name."""
        guarded = self.model_copy()
        guarded._guard_pipelines = {
            guard.pipeline: catalogue[guard.pipeline]
            for guard in self.guards.values()
            if guard.pipeline is not None and guard.pipeline in catalogue
        }
        return guarded

    @property
    def is_spread(self) -> bool:
        """Whether a process needs its devices alone for this pipeline, or for a guard of it."""
        return any(entry.device_map is not None for entry in (self, *self.guard_pipelines.values()))

    @property
    def spreads_over_gpus(self) -> bool:
        """Whether it is spread, and not on a CPU alone."""
        return self.is_spread and self.device != "cpu"

    @property
    def spec(self) -> TaskSpec:
        """Spec of the pipeline's task, with its limits, whose inputs have the fields that the templates name."""
        spec = tasks.find_spec(self.task)
        if spec is TRANSFORMERS_PIPELINE:
            spec = transformers_pipeline.with_entry(spec, self.task, self.parameters, self.examples)
        if (limits := self.generation_limits) is not None:
            spec = replace(spec, check_input=limits.limit_input(spec.check_input))
        return spec if self.template is None else self.template.spec_for(spec)

    @property
    def effective_window_aggregation(self) -> WindowAggregation:
        """How the scores of a text's windows become one: its own choice, or else that of its task."""
        return self.window_aggregation or tasks.find_spec(self.task).default_window_aggregation

    @property
    def generation_limits(self) -> GenerationLimits | None:
        """The limits in force; None for tasks other than text-generation."""
        if tasks.find_spec(self.task) is not TEXT_GENERATION:
            return None
        return self.limits or GenerationLimits()

    def check_parameters(self, raw_parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Validate parameters as `TaskSpec.check_parameters` does, and against the limits."""
        parameters = self.spec.check_parameters(raw_parameters)
        if (limits := self.generation_limits) is not None:
            limits.check_parameters(parameters, self.name)
        return parameters

    @property
    def template(self) -> PromptTemplate | None:
        """The parsed `prompt` and `system`; None without them."""
        return prompt_template.parse_templates(self.prompt, self.system)

    @property
    def template_parameters(self) -> dict[str, str]:
        """The templates as the parameters of a batch record them; empty without any."""
        return {} if self.template is None else self.template.parameters

    def with_templates(self, parameters: Mapping[str, Any]) -> Self:
        """The pipeline with the templates that a batch's parameters record, instead of those of the catalogue."""
        return self.model_copy(update={name: parameters.get(name) for name in (PROMPT, SYSTEM)})

    @property
    def folder(self) -> Path | None:
        """Absolute path of the model's folder; None for a Hub id."""
        return _model_folder(self.model)

    @property
    def tokenizer_folder(self) -> Path | None:
        """Absolute path of the tokenizer's folder; None for a Hub id or if the entry names no tokenizer."""
        return _model_folder(self.tokenizer or "")

    @property
    def adapter_folder(self) -> Path | None:
        """Absolute path of the adapter's folder; None for a Hub id or if the entry names no adapter."""
        return _model_folder(self.adapter or "")

    @property
    def pinned_revision(self) -> str | None:
        """The revision of a batch as far as the entry alone tells it; None if a worker must resolve it."""
        if self.adapter is None or self.revision is None:
            return self.revision
        return None if self.adapter_revision is None else join_revisions(self.revision, self.adapter_revision)

    def at_revision(self, batch_revision: str) -> Self:
        """The pipeline at the revision with which a batch began."""
        revision, adapter_revision = split_revision(batch_revision)
        pins = {"revision": revision}
        if self.adapter is not None and adapter_revision is not None:
            pins["adapter_revision"] = adapter_revision
        return self.model_copy(update=pins)

    def has_same_base(self, other: "Pipeline") -> bool:
        """Whether both load the same weights in the same way, adapters aside."""
        return all(getattr(self, name) == getattr(other, name) for name in BASE_FIELDS)

    def has_revision(self, batch_revision: str, loaded_revision: str) -> bool:
        """Whether the entry can be had at the revision of a batch: commits can be fetched, a folder's content is one.

        loaded_revision: the revision that the entry came as.
        """
        parts, loaded_parts = split_revision(batch_revision), split_revision(loaded_revision)
        if (parts[1] is None) != (self.adapter is None):
            return False
        return all(
            folder is None or part == loaded
            for folder, part, loaded in zip((self.folder, self.adapter_folder), parts, loaded_parts, strict=True)
        )


def join_revisions(revision: str, adapter_revision: str | None) -> str:
    """Return the revision that a batch records: the model's, and its adapter's if it has one."""
    return revision if adapter_revision is None else f"{revision}{REVISION_SEPARATOR}{adapter_revision}"


def split_revision(batch_revision: str) -> tuple[str, str | None]:
    """Return the revisions of the model and of its adapter, None without one, that a batch records as one."""
    revision, _, adapter_revision = batch_revision.partition(REVISION_SEPARATOR)
    return revision, adapter_revision or None


def _model_folder(name: str) -> Path | None:
    if name.startswith(BUNDLED_PREFIX):
        return SAMPLES_FOLDER / name.removeprefix(BUNDLED_PREFIX)
    return Path(name) if Path(name).is_absolute() else None
