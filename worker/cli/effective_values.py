"""What a worker would run a pipeline with: the dtypes, lengths and parameters that come of its entry and its model."""

from dataclasses import dataclass
from typing import Any, Self

from models.pipelines import precision, redaction
from models.pipelines.checkpoint import Checkpoint
from models.pipelines.model_files import ModelFiles
from models.pipelines.pipeline import Pipeline
from models.tasks.generation.decoding import DecodingParameters
from worker.loading.files.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class EffectiveDtypes:
    """The dtype of a pipeline's files, and those in which it runs; None = not known until the model is here."""

    entry: str
    files: str | None
    cpu: str | None
    gpu: str | None
    gpu_warning: str | None

    @classmethod
    def for_pipeline(cls, pipeline: Pipeline, files: Snapshot | None) -> Self:
        """Read the headers of the model's weights."""
        checkpoint, config = (Checkpoint.read(files.transformer_folder), files.config) if files else (None, {})
        cpu, gpu = (precision.effective_dtype(pipeline, kind, config, checkpoint) for kind in ("cpu", "cuda"))
        warning = precision.slow_dtype_warning(pipeline, "cuda", gpu)
        return cls(pipeline.dtype, checkpoint.dtype if checkpoint else None, cpu, gpu, warning)

    @property
    def text(self) -> str:
        """What the entry asks for, and what comes of it."""
        factor = f", about {precision.FLOAT32_FACTOR_ON_CUDA} times slower than float16 (estimated)"
        factor = factor if self.gpu_warning else ""
        files = f"; files: {self.files}" if self.files else ""
        gpu = self.gpu or "that of the model's files"
        return f"{self.entry}: {self.cpu} on a CPU, {gpu} on a GPU{factor}{files}"

    def as_dict(self) -> dict[str, Any]:
        """Return the part of the object that `models show --json` prints as `effective`."""
        return {"file_dtype": self.files, "cpu_dtype": self.cpu, "gpu_dtype": self.gpu}


@dataclass(frozen=True, slots=True)
class EffectiveLimits:
    """The lengths and parameters with which a worker runs a pipeline, as far as the model is on this machine."""

    max_length: int | None  # of the entry
    model_max_length: int | None
    is_model_here: bool
    output_length: str | None  # of generated texts
    parameters: dict[str, Any]

    @classmethod
    def for_pipeline(cls, pipeline: Pipeline) -> Self:
        """Merge the entry with the model's own defaults."""
        files, parameters = ModelFiles.find(pipeline), pipeline.spec.parameters().model_dump(mode="json")
        output_length = None
        if files is None and (known := pipeline.generation_limits) is not None:
            output_length = f"up to {pipeline.parameters.get('max_new_tokens') or known.max_new_tokens:,} new tokens"
            parameters["max_time"] = known.max_time
        if files is not None and issubclass(pipeline.spec.parameters, DecodingParameters):
            limits, new_tokens = pipeline.generation_limits, pipeline.parameters.get("max_new_tokens")
            parameters |= files.generation_defaults(pipeline)
            output_length = files.output_length(pipeline.task)
            output_length = f"up to {new_tokens:,} new tokens" if new_tokens else output_length
            if limits is not None and not new_tokens:
                output_length = files.limited_output_length(limits.max_new_tokens)
                parameters["max_time"] = limits.max_time
                if parameters.get("max_new_tokens"):
                    parameters["max_new_tokens"] = min(parameters["max_new_tokens"], limits.max_new_tokens)
        parameters = {name: value for name, value in {**parameters, **pipeline.parameters}.items() if value is not None}
        limit = None
        if files is not None:
            limit = files.max_length if pipeline.max_length else files.default_max_length
        redacted = redaction.redact_parameters(parameters)
        return cls(pipeline.max_length, limit, files is not None, output_length, redacted)

    @property
    def max_length_text(self) -> str:
        """The most tokens of an input, and whose limit that is."""
        if self.model_max_length is None:
            unlimited = "no limit" if self.is_model_here else "the model's own, which is not here"
            return f"{self.max_length:,} tokens" if self.max_length else unlimited
        if self.max_length is None:
            return f"{self.model_max_length:,} tokens, the model's own"
        is_refused = "; more is refused at submit" if self.max_length > self.model_max_length else ""
        return f"{self.max_length:,} tokens; the model takes {self.model_max_length:,}{is_refused}"

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `models show --json` prints as `effective`."""
        return {
            "max_length": min(filter(None, (self.max_length, self.model_max_length)), default=None),
            "model_max_length": self.model_max_length,
            "output_length": self.output_length,
            "parameters": self.parameters,
        }
