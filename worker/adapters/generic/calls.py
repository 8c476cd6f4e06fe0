"""A call of a pipeline, split at its forward passes: the first half gives model inputs, the second takes outputs.

`Pipeline.__call__` reads arguments, `run_single` or `get_iterator` compute, and `__call__` may wrap what they return.
Both halves run `__call__`: the first stops where it would compute, and the second finds everything computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from transformers.pipelines.base import ChunkPipeline

from models.errors import JobError

MAX_PASSES = 1_000  # of one input

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """The model inputs of a call: of each of its inputs those of one pass, or of several for a chunked pipeline."""

    passes: list[list[Any]]
    forward_parameters: dict[str, Any]


class _Captured(BaseException):
    """Carries the arguments out of `__call__`; no Exception, so that no handler in a pipeline takes it."""

    def __init__(self, inputs: Sequence[Any], preprocess: Parameters, forward: Parameters) -> None:
        self.inputs, self.preprocess, self.forward = inputs, preprocess, forward


class PipelineCalls:
    """The two halves of a call; not for several threads at once."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self.tokenizer = pipe.tokenizer
        self._is_chunked = isinstance(pipe, ChunkPipeline)

    def begin(self, value: Any, parameters: Parameters) -> Call:
        """Return what the forward passes need. Raises JobError where the call can't be split or has too many passes."""

        def capture(inputs: Any, preprocess: Parameters, forward: Parameters, _postprocess: Parameters) -> None:
            raise _Captured([inputs], preprocess, forward)

        def capture_all(inputs: Any, _workers: int, _size: int, *stages: Parameters, **named: Parameters) -> None:
            preprocess, forward, _ = (*stages, *named.values())
            raise _Captured(list(islice(inputs, MAX_PASSES + 1)), preprocess, forward)

        try:
            with self._replace(run_single=capture, get_iterator=capture_all, forward=_refuse_forward):
                self._pipe(value, **parameters)
        except _Captured as captured:
            passes = [self._preprocess(one, captured.preprocess) for one in captured.inputs]
            if sum(map(len, passes)) > MAX_PASSES or not all(passes):
                raise _unsuitable(f"gives no pass for the model, or over {MAX_PASSES:,}") from None
            return Call(passes, dict(captured.forward))
        raise _unsuitable("gives an answer without its model")

    def finish(self, value: Any, parameters: Parameters, outputs: Sequence[Sequence[Any]]) -> Any:
        """Return what the whole call returns, given the outputs of its passes."""

        def answer(_inputs: Any, _preprocess: Parameters, _forward: Parameters, postprocess: Parameters) -> Any:
            return self._postprocess(outputs[0], postprocess)

        def answer_all(_inputs: Any, _workers: int, _size: int, *stages: Parameters, **named: Parameters) -> Any:
            postprocess = (*stages, *named.values())[2]
            return (self._postprocess(one, postprocess) for one in outputs)

        with self._replace(run_single=answer, get_iterator=answer_all, forward=_refuse_forward):
            result = self._pipe(value, **parameters)
            return list(result) if isinstance(result, Iterator) else result

    def _preprocess(self, one: Any, parameters: Parameters) -> list[Any]:
        made = self._pipe.preprocess(one, **parameters)
        return list(islice(made, MAX_PASSES + 1)) if self._is_chunked else [made]

    def _postprocess(self, outputs: Sequence[Any], parameters: Parameters) -> Any:
        if not self._is_chunked:
            return self._pipe.postprocess(outputs[0], **parameters)
        return self._pipe.postprocess([_without_end_mark(output) for output in outputs], **parameters)

    @contextmanager
    def _replace(self, **methods: Any) -> Iterator[None]:
        self._pipe.__dict__.update(methods)
        try:
            yield
        finally:
            for name in methods:
                del self._pipe.__dict__[name]


def _refuse_forward(*_inputs: Any, **_parameters: Any) -> None:
    raise _unsuitable("calls its model in a way that micro-batches can't")


def _unsuitable(problem: str) -> JobError:
    return JobError("unsuitable_pipeline", f"for this input the pipeline of transformers {problem}; write an own task")


def _without_end_mark(output: Any) -> Any:
    """The output without `is_last`, which transformers takes out as well."""
    if isinstance(output, Mapping) and "is_last" in output:
        return {name: value for name, value in output.items() if name != "is_last"}
    return output
