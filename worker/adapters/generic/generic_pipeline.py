"""The adapter that runs a registered pipeline of transformers through its own steps.

It is slower than another adapter: tokenizer calls are one by one, and passes are not packed.
"""

import copy
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from threading import RLock
from typing import Any, ClassVar, Self

import structlog
import torch

from models.documents import to_json
from models.errors import JobError, ModelError
from models.foreign_errors import first_line
from models.tasks import find_spec
from models.tasks.generic.table_question_answering import TABLE_QUESTION_ANSWERING
from models.tasks.generic.transformers_pipeline import PREFIX
from worker.adapters.encoding.collation import MAX_CUDA_ROWS, MAX_ROWS, Collator
from worker.adapters.generic import passes, registry, tables
from worker.adapters.generic.calls import Call, PipelineCalls
from worker.adapters.generic.generic_rows import GenericRow, PassInputs, PassOutput, TokenlessRow
from worker.adapters.generic.model_classes import ModelClasses
from worker.adapters.generic.passes import Passes
from worker.adapters.generic.plain_output import to_plain
from worker.adapters.generic.registry import RegisteredPipeline
from worker.adapters.generic.samples import sample_inputs
from worker.adapters.generic.sharing_trial import Sample, find_sharing
from worker.adapters.interface import Interrupted, Limits, never_interrupted
from worker.adapters.probes import sameness
from worker.adapters.probes.probe_scores import reraise_machine_problem
from worker.adapters.probes.sameness_trials import ScoringTrial
from worker.adapters.probes.sharing import Sharing, SharingPolicy
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks.job_errors import input_too_long
from worker.adapters.tokenization import vocabulary
from worker.failures import is_machine_problem
from worker.layers import int8_linear
from worker.layers.spread_weights import pipeline_device
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)


class GenericPipeline:
    """Runs a pipeline's preprocess, forward and postprocess in three threads, on two copies of its tokenizer."""

    auto_model_class: ClassVar[Any]
    registered: ClassVar[RegisteredPipeline]
    uses_packing = False

    @classmethod
    def for_task(cls, task: str) -> type[Self]:
        """The adapter of one pipeline. Raises ModelError if transformers has none of this name for text."""
        registered = registry.find(task)
        return type(cls.__name__, (cls,), {"registered": registered, "auto_model_class": ModelClasses(registered)})

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, task: str) -> None:
        self._model, self._limits, self._task = model, limits, task
        self._vocabulary_size = vocabulary.size(model)
        self._log_truncation = Collator(tokenizer, model.device, limits).log_truncation
        if limits.max_length is not None:
            tokenizer.model_max_length = limits.max_length  # where the pipeline cuts, if it cuts
        device_pipe = self._make_pipe(model, tokenizer)
        host_pipe = copy.copy(device_pipe)
        # Tokenizers have state, and the forward pass may need one while another text is read.
        host_pipe.tokenizer = copy.deepcopy(tokenizer)
        self._calls, self._call_lock = PipelineCalls(host_pipe), RLock()
        self._passes = Passes(device_pipe)
        self._generates = bool(device_pipe._pipeline_calls_generate and model.can_generate())
        self.should_interrupt: Callable[[], bool] = never_interrupted
        model.register_forward_pre_hook(self._interrupt)
        policy = self._decide_policy()
        self._state_to_restore = policy.state_to_restore(model)
        self._sample_parameters: dict[str, Any] = {}  # of the forward passes in the trial
        if not task.startswith(PREFIX):  # those inputs are not known
            for example in (find_spec(task).example_input, *sample_inputs(task)):
                self._check_example(example)
        self._sharing = self._find_sharing(policy)
        self.max_rows = 1 if self._sharing is Sharing.ALONE else MAX_CUDA_ROWS if _is_cuda(model) else MAX_ROWS

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """Preprocess each job; an input that the pipeline can't read fails alone."""
        return [self._encode_job(job) for job in jobs]

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        """The pipeline's own outputs, those of each row apart."""
        outputs = self._run([row.features for row in micro_batch.rows])
        return [PassOutput(output, passes.memory_bytes(output)) for output in outputs]

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        """What `pipeline(...)` returns for the input, as JSON."""
        outputs: list[list[Any]] = [[] for _ in range(rows[-1].features.input_index + 1)]
        for row, output in zip(rows, raw_outputs, strict=True):
            outputs[row.features.input_index].append(output.value)
        job = rows[0].job
        with self._call_lock:
            return self._finish(self._arguments(job.input, job.lease.parameters), outputs)

    def _finish(self, arguments: tuple[Any, dict[str, Any]], outputs: Sequence[Sequence[Any]]) -> Any:
        if self._task == TABLE_QUESTION_ANSWERING.name:  # whose pipeline works on NumPy's arrays
            outputs = [list(map(passes.without_bfloat16, each)) for each in outputs]
        return to_plain(self._calls.finish(*arguments, outputs))

    def _make_pipe(self, model: Any, tokenizer: Any) -> Any:
        device = pipeline_device(model)
        try:
            return self.registered.pipeline_class(
                model=model, tokenizer=tokenizer, task=self.registered.name, device=device
            )
        except Exception as error:
            reraise_machine_problem(error)
            problem = f"{type(error).__name__}: {str(error)[:200]}"
            raise ModelError(f"transformers' pipeline {self.registered.name} refuses the model ({problem})") from error

    def _check_example(self, example: Mapping[str, Any]) -> None:
        """Raise ModelError if the pipeline can't answer an example of the task, because its jobs would fail as well.

        Its tokenizer may read no tables, for instance, or lack a token for an answer.
        """
        arguments, model_class = self._arguments(example, {}), type(self._model).__name__
        failure = f"the tokenizer of {model_class} can't read"
        try:
            call = self._calls.begin(*arguments)
            failure = f"{model_class} can't answer"
            self._finish(arguments, self._run_alone(call))
        except Exception as error:
            reraise_machine_problem(error)
            problem = f"{failure} the example of {self._task} ({type(error).__name__}: {first_line(error)})"
            raise ModelError(f"{problem}; name another model") from error

    def _interrupt(self, *_module_and_inputs: Any) -> None:
        if self.should_interrupt():
            raise Interrupted

    def _arguments(self, job_input: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """What the pipeline is called with for an input: the input itself, and the parameters."""
        named = dict(parameters)
        if self._task.startswith(PREFIX):
            return (job_input["text"] if "text" in job_input else copy.deepcopy(job_input["inputs"])), named
        if self.registered.name == "decision":
            questions = job_input.get("questions") or named.get("questions")
            return {"state": job_input["state"], "questions": questions}, {}
        return dict(job_input), named

    def _encode_job(self, job: Job) -> list[Row] | JobError:
        try:
            with self._call_lock:
                call = self._calls.begin(*self._arguments(job.input, job.lease.parameters))
            return self._make_rows(job, call)
        except JobError as error:
            return error.with_traceback(None)
        except Exception as error:
            if is_machine_problem(error):
                raise
            problem = f"the pipeline of transformers can't read this input ({type(error).__name__})"
            return JobError("unreadable_input", f"{problem}; see its documentation for the form that it takes")

    def _make_rows(self, job: Job, call: Call) -> list[Row]:
        inputs = [(index, one) for index, parts in enumerate(call.passes) for one in parts]
        truncated = self._check_length(job, [one for _, one in inputs])
        key, seed = to_json(job.lease.parameters), _seed(job)
        return [
            self._make_row(
                job, PassInputs(one, call.forward_parameters, index, seed), key, truncated, (place, len(inputs))
            )
            for place, (index, one) in enumerate(inputs)
        ]

    def _make_row(self, job: Job, features: PassInputs, key: str, truncated: bool, part: tuple[int, int]) -> Row:
        widths = [ids.shape[-1] for ids in passes.find_ids(features.inputs)]
        form = passes.shared_form(features.inputs)
        # Such as TAPAS's `sequential`, which makes one conversation of the rows of a pass.
        is_untried = repr(features.forward_parameters) != repr(self._sample_parameters)
        is_alone = form is None or is_untried or self._sharing is Sharing.ALONE
        token_count = sum(ids.numel() for ids in passes.find_ids(features.inputs))
        by_length: Hashable = max(widths, default=0) if self._sharing is Sharing.BY_LENGTH else None
        return (GenericRow if token_count else TokenlessRow)(
            job,
            features,
            token_count or 1,
            truncated,
            None if is_alone else (key, form, by_length),
            *part,
            max_rows=1 if is_alone else None,
            input_bytes=passes.memory_bytes(features.inputs),
        )

    def _check_length(self, job: Job, inputs: Sequence[Any]) -> bool:
        """Whether the pipeline cut the input. Raises JobError if it did and must not, or did not and had to."""
        limit, tensors = self._limits.max_length, [ids for one in inputs for ids in passes.find_ids(one)]
        width = max((ids.shape[-1] for ids in tensors), default=0)
        if limit is not None and width > limit:
            advice = "shorten it"
            if self._task.startswith(PREFIX):  # other tasks have no such parameter
                advice += ", or let the entry's parameters set truncation = true if the pipeline has it"
            raise input_too_long(f"{width:,} tokens", limit, advice)
        for ids in tensors:
            vocabulary.check_token_ids([int(ids.max())] if ids.numel() else [], self._vocabulary_size)
        truncated = self._is_cut(job, inputs, width)
        if truncated and not self._limits.should_truncate:
            raise input_too_long("too many tokens", limit)
        if truncated:
            self._log_truncation()
        return truncated

    def _is_cut(self, job: Job, inputs: Sequence[Any], width: int) -> bool:
        """Whether an input has more tokens than the model takes, so that the pipeline cut it."""
        limit, tokenizer = self._limits.max_length, self._calls.tokenizer
        text, is_table = job.input.get("text"), self._task == TABLE_QUESTION_ANSWERING.name
        if not is_table and (width != limit or not isinstance(text, str)):
            return False
        with self._call_lock:
            if is_table:
                return any(tables.is_cut(tokenizer, one["table"], job.input, limit) for one in inputs)
            return len(tokenizer(text, truncation=False)["input_ids"]) > width

    # Without `inference_mode`, whose outputs a pipeline could not change in place; `Pipeline.forward` has `no_grad`.
    def _run(self, features: Sequence[PassInputs]) -> list[Any]:
        if self._state_to_restore is not None:
            self._state_to_restore.restore()
        if self._generates:
            torch.manual_seed(features[0].seed)  # so that sampled text depends on the input alone
        return self._passes.run([one.inputs for one in features], features[0].forward_parameters)

    def _decide_policy(self) -> SharingPolicy:
        """The policy of the probe on small copies. It reads token ids only, which are no table."""
        if self._generates or self._task == TABLE_QUESTION_ANSWERING.name:
            across_rows = int8_linear.is_quantized_across_rows(self._model)
            return SharingPolicy(Sharing.ALONE if across_rows else Sharing.TOGETHER)
        return sameness.decide_sharing(self._model, ScoringTrial(), self._limits.max_length)

    def _find_sharing(self, policy: SharingPolicy) -> Sharing:
        sharing, reason = self._try_sharing(policy)
        log.info("model.generic_pipeline", pipeline=self._limits.pipeline, sharing=sharing.value, reason=reason)
        return sharing

    def _try_sharing(self, policy: SharingPolicy) -> tuple[Sharing, str | None]:
        if self._generates:
            return Sharing.ALONE, "it generates text"
        if self._limits.deterministic:
            return Sharing.ALONE, "deterministic passes depend on one row alone"
        if policy.sharing is Sharing.ALONE:
            return Sharing.ALONE, "other rows change the model's scores"
        if not self._passes.can_share:
            return Sharing.ALONE, "its tokenizer has no padding token"
        with int8_linear.float32_fallback(self._model):
            inputs = self._limits.examples or sample_inputs(self._task)
            samples = [sample for one in inputs for sample in self._make_samples(one)]
            sharing, reason = find_sharing(samples, self._run_samples, self._model.dtype)
        if sharing is Sharing.TOGETHER and policy.sharing is Sharing.BY_LENGTH:
            return Sharing.BY_LENGTH, "padding changes the model's scores"
        return sharing, reason

    def _make_samples(self, sample_input: Mapping[str, Any]) -> list[Sample]:
        arguments = self._arguments(sample_input, {})
        try:
            call = self._calls.begin(*arguments)
        except Exception as error:  # of a pipeline that takes another kind of input
            reraise_machine_problem(error)
            return []
        if len(call.passes) != 1 or len(call.passes[0]) != 1:
            return []
        self._sample_parameters = call.forward_parameters
        return [Sample(call.passes[0][0], lambda output: self._finish(arguments, [[output]]))]

    def _run_alone(self, call: Call) -> list[list[Any]]:
        """The outputs of a call's passes, by its inputs."""
        with int8_linear.float32_fallback(self._model):
            return [
                [self._run([PassInputs(one, call.forward_parameters, index, 0)])[0] for one in inputs]
                for index, inputs in enumerate(call.passes)
            ]

    def _run_samples(self, inputs: Sequence[Any]) -> list[Any]:
        return self._run([PassInputs(one, self._sample_parameters, 0, 0) for one in inputs])


def _seed(job: Job) -> int:
    content = to_json([job.input, job.lease.parameters])
    return int.from_bytes(hashlib.sha256(content.encode(errors="surrogatepass")).digest()[:7])


def _is_cuda(model: Any) -> bool:
    return bool(model.device.type == "cuda")
