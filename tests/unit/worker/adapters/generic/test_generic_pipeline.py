"""The generic adapter: which pipelines it takes, which rows share passes, and what fails one row alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from transformers import AutoModelForCausalLM, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from models.errors import JobError, LoadFailed, ModelError
from tests.factories import tiny_decoders, tiny_models, tiny_tables
from tests.factories.registered_pipelines import PairPipeline, registered
from tests.factories.tiny_encoders import pipeline_for
from worker.adapters.generic import registry
from worker.adapters.interface import Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.loading.runtime import Runtime

TASK = "transformers:pair-scores"


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # restored afterwards; loading sets it


def load(folder: Path, pipeline_class: type[Pipeline] = PairPipeline, **fields: Any) -> Runtime:
    with registered("pair-scores", pipeline_class):
        return runtime.load(pipeline_for(folder, fields.pop("task", TASK), **fields), "cpu", threads=1)


def job(job_input: dict[str, Any], **parameters: Any) -> Job:
    return Job(Lease(1, "batch", 0, 1, 1, 1, parameters), 0, job_input)


def encode(loaded: Runtime, job_input: dict[str, Any], **parameters: Any) -> list[Row] | JobError:
    [encoded] = loaded.adapter.encode([job(job_input, **parameters)])
    return encoded


def answer(loaded: Runtime, job_input: dict[str, Any], **parameters: Any) -> Any:
    rows = encode(loaded, job_input, **parameters)
    assert isinstance(rows, list), rows
    return loaded.adapter.decode(rows, [loaded.adapter.forward(MicroBatch((row,)))[0] for row in rows])


def sharing_of(events: list[Any]) -> tuple[str, str | None]:
    [event] = [event for event in events if event["event"] == "model.generic_pipeline"]
    return event["sharing"], event["reason"]


class PlainNumbersPipeline(PairPipeline):
    """Reads an input without a tokenizer."""

    def preprocess(self, inputs: Any, truncation: bool = False) -> Any:
        return {"numbers": torch.ones(1, 4)}

    def _forward(self, model_inputs: Any) -> Any:
        return self.model(input_ids=model_inputs["numbers"].long())


class EchoPipeline(PairPipeline):
    """Returns what its class attribute holds."""

    output: Any = None

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """As the base of all pipelines."""
        return Pipeline.__call__(self, inputs, **parameters)

    def postprocess(self, model_outputs: Any, digits: int = 0) -> Any:
        """The attribute."""
        return self.output


class DirectPipeline(PairPipeline):
    """Calls its model itself."""

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """Answer without the steps of the base."""
        return self.postprocess(self.forward(self.preprocess(inputs)))


class NeighbourPipeline(PairPipeline):
    """Lets the other rows of a pass change an answer."""

    def _forward(self, model_inputs: Any) -> Any:
        outputs = super()._forward(model_inputs)
        outputs.logits = outputs.logits + len(outputs.logits)
        return outputs


class WriterPipeline(Pipeline):
    """Samples text."""

    _pipeline_calls_generate = True

    def _sanitize_parameters(self, **_: Any) -> Any:
        return {}, {}, {}

    def preprocess(self, inputs: Any) -> Any:
        """Tokenize a prompt."""
        return self.tokenizer(inputs, return_tensors="pt")

    def _forward(self, model_inputs: Any) -> Any:
        return {"ids": self.model.generate(**model_inputs, do_sample=True, max_new_tokens=12)}

    def postprocess(self, model_outputs: Any) -> Any:
        """The text."""
        return self.tokenizer.decode(model_outputs["ids"][0])


def test_rows_share_passes_where_the_trial_lets_them(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    with capture_logs() as together:
        load(folder)
    with capture_logs() as alone:
        loaded = load(folder, NeighbourPipeline)
    with capture_logs() as deterministic:
        load(folder, deterministic=True)

    assert sharing_of(together) == ("together", None)
    assert sharing_of(alone) == ("alone", "other rows change answers")
    assert sharing_of(deterministic)[0] == "alone"
    rows = encode(loaded, {"text": "love"})
    assert isinstance(rows, list)
    assert [row.max_rows for row in rows] == [1]


class InPlacePipeline(PairPipeline):
    """Changes an output in place."""

    def postprocess(self, model_outputs: Any, digits: int = 12) -> Any:
        """The scores, of logits that are one larger."""
        model_outputs.logits.add_(1)
        return super().postprocess(model_outputs, digits)


def test_a_pipeline_may_change_its_outputs_in_place(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    with capture_logs() as events:
        loaded = load(folder, InPlacePipeline)

    assert sharing_of(events) == ("together", None)
    assert answer(loaded, {"text": "love"}, digits=4) == answer(load(folder), {"text": "love"}, digits=4)


class ObjectPipeline(PairPipeline):
    """Reads objects only."""

    def preprocess(self, inputs: Any, truncation: bool = False) -> Any:
        """Tokenize both texts."""
        return self.tokenizer(inputs["first"], inputs["second"], return_tensors="pt")


def test_rows_count_tokens_where_the_inputs_have_any(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")

    with_tokens, without = (
        encode(load(folder, kind), {"text": "love"}) for kind in (PairPipeline, PlainNumbersPipeline)
    )

    assert isinstance(with_tokens, list)
    assert isinstance(without, list)
    assert [(row.has_tokens, row.length) for row in with_tokens] == [(True, 3)]
    assert [(row.has_tokens, row.length) for row in without] == [(False, 1)]


def test_a_pipeline_of_objects_is_tried_with_the_examples(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    pairs = [("love it", "a"), ("a", "it love"), ("love", "hate it the product"), ("it", "a")]
    examples = [{"inputs": {"first": first, "second": second}} for first, second in pairs]
    with capture_logs() as without:
        load(folder, ObjectPipeline)
    with capture_logs() as tried:
        load(folder, ObjectPipeline, examples=examples)
    with capture_logs() as short:
        load(folder, ObjectPipeline, examples=examples[:2])

    assert sharing_of(without) == ("alone", "no inputs could be tried together")
    assert sharing_of(tried) == ("together", None)
    assert sharing_of(short) == ("by length", "no padding could be tried")


def test_padding_changes_the_answers_of_a_random_tapas(tmp_path: Path) -> None:
    folder = tiny_tables.tapas(tmp_path / "model")
    with capture_logs() as events:
        loaded = load(folder, task="table-question-answering")
    table = {"table": {"a": ["love"]}, "query": "it"}

    assert sharing_of(events) == ("by length", "padding changes answers")
    [plain], [sequential] = encode(loaded, table), encode(loaded, table, sequential=True)
    assert (plain.max_rows, sequential.max_rows) == (None, 1), "rows would become a conversation"


@pytest.mark.parametrize(
    ("output", "code"),
    [
        (float("nan"), "invalid_output"),
        ({"a": torch.tensor([float("inf")])}, "invalid_output"),
        (object(), "invalid_output"),
        ({(1, 2): 3}, "invalid_output"),
        (torch.ones(2, dtype=torch.bfloat16), [1.0, 1.0]),
        ({1: (True, None)}, {"1": [True, None]}),
    ],
)
def test_outputs_become_json_or_fail(output: Any, code: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EchoPipeline, "output", "fine")
    loaded = load(tiny_models.bert(tmp_path / "model"), EchoPipeline)
    monkeypatch.setattr(EchoPipeline, "output", output)

    if not isinstance(code, str):
        assert answer(loaded, {"text": "love"}) == code
        return
    with pytest.raises(JobError) as raised:
        answer(loaded, {"text": "love"})
    assert raised.value.code == code


def test_an_input_that_can_t_be_read_fails_without_a_quote(tmp_path: Path) -> None:
    loaded = load(tiny_models.bert(tmp_path / "model"))

    first, second = loaded.adapter.encode([job({"inputs": {"secret": 1}}), job({"text": "love"})])

    assert isinstance(first, JobError)
    assert first.code == "unreadable_input"
    assert "secret" not in str(first)
    assert isinstance(second, list)


def test_a_pipeline_that_calls_its_model_itself_is_refused_for_each_row(tmp_path: Path) -> None:
    loaded = load(tiny_models.bert(tmp_path / "model"), DirectPipeline)

    error = encode(loaded, {"text": "love"})

    assert isinstance(error, JobError)
    assert error.code == "unsuitable_pipeline"


def test_a_long_text_fails_unless_the_pipeline_cuts_it(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    loaded, refusing = load(folder), load(folder, truncation="error", max_length=16)
    long, short = {"text": "love " * 100}, {"text": "love " * 10}

    error = encode(loaded, long)
    assert isinstance(error, JobError)
    assert error.code == "input_too_long"
    cut, whole = encode(loaded, long, truncation=True), encode(loaded, short, truncation=True)
    assert isinstance(cut, list)
    assert isinstance(whole, list)
    assert [row.truncated for row in (*cut, *whole)] == [True, False]
    refused = encode(refusing, long, truncation=True)
    assert isinstance(refused, JobError)
    assert refused.code == "input_too_long"


def test_a_table_that_must_not_be_cut_fails(tmp_path: Path) -> None:
    folder = tiny_tables.tapas(tmp_path / "model")
    loaded = load(folder, task="table-question-answering", truncation="error")

    error = encode(loaded, {"table": {"a": ["love"] * 100}, "query": "it"})

    assert isinstance(error, JobError)
    assert error.code == "input_too_long"


def test_sampled_text_depends_on_the_input_and_the_parameters_alone(tmp_path: Path) -> None:
    folder = tiny_decoders.llama(tmp_path / "model")
    PIPELINE_REGISTRY.register_pipeline("writer", WriterPipeline, AutoModelForCausalLM, type="text")
    try:
        with capture_logs() as events:
            loaded = runtime.load(pipeline_for(folder, "transformers:writer"), "cpu", threads=1)
    finally:
        del PIPELINE_REGISTRY.supported_tasks["writer"]

    texts = [answer(loaded, {"text": text}) for text in ("love", "hate", "love", "hate")]

    assert sharing_of(events) == ("alone", "it generates text")
    assert texts[:2] == texts[2:]
    loaded.adapter.should_interrupt = lambda: True
    with pytest.raises(Interrupted):
        answer(loaded, {"text": "love"})


def test_unknown_pipelines_and_those_for_other_media_are_refused() -> None:
    with registered("pair-scores", PairPipeline), pytest.raises(ModelError, match="it has: pair-scores"):
        registry.find("transformers:nothing")
    with registered("pictures", PairPipeline, "image"), pytest.raises(ModelError, match="reads images"):
        registry.find("transformers:pictures")
    with registered("pair-scores", PairPipeline, None):
        assert registry.find(TASK).pipeline_class is PairPipeline
    for name in PIPELINE_REGISTRY.supported_tasks:
        if name not in registry.OWN_TASKS:
            with pytest.raises(ModelError):
                registry.find(name)


def test_tables_need_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)

    with pytest.raises(LoadFailed, match=r"\.\[tables\]"):
        registry.find("table-question-answering")


def test_an_adapter_named_by_decision_json_is_refused(tmp_path: Path) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model")
    (folder / "decision.json").write_text('{"adapter": "lora"}', "utf-8")

    with pytest.raises(ModelError, match="asks for an adapter"):
        load(folder, task="decision")


def test_a_model_without_the_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load(tiny_models.masked_bert(tmp_path / "model"))


def test_a_model_whose_tokenizer_reads_no_tables_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.bert(tmp_path / "model")

    with pytest.raises(ModelError, match="can't read the example of table-question-answering"):
        load(folder, task="table-question-answering")


def test_a_model_that_can_answer_no_job_is_refused(tmp_path: Path) -> None:
    folder = tiny_tables.tapas(tmp_path / "model", select_one_column=False)

    with pytest.raises(ModelError, match=r"LlamaForCausalLM can't answer the example of decision .*'Yes', 'No'"):
        runtime.load(pipeline_for("bundled:text-generation", "decision"), "cpu", threads=1)
    with pytest.raises(ModelError, match="can't answer the example of table-question-answering"):
        load(folder, task="table-question-answering")


@pytest.mark.parametrize("task", ["table-question-answering", TASK])
def test_a_long_input_gets_advice_that_its_task_can_follow(tmp_path: Path, task: str) -> None:
    is_table = task != TASK
    folder = (tiny_tables.tapas if is_table else tiny_models.bert)(tmp_path / "model")
    text = "love " * 200

    error = encode(load(folder, task=task), {"table": {"a": ["it"]}, "query": text} if is_table else {"text": text})

    assert isinstance(error, JobError)
    assert error.code == "input_too_long"
    assert ("truncation" in str(error)) == (not is_table)


def test_registered_by_is_imported_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.bert(tmp_path / "model")
    code = (
        "from tests.factories.registered_pipelines import *\n"
        "PIPELINE_REGISTRY.register_pipeline('by-code', PairPipeline, AutoModelForSequenceClassification)\n"
    )
    (tmp_path / "code_that_registers.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry = pipeline_for(folder, "transformers:by-code", registered_by="code_that_registers:PairPipeline")
    try:
        loaded = runtime.load(entry, "cpu", threads=1)
    finally:
        PIPELINE_REGISTRY.supported_tasks.pop("by-code", None)

    assert set(answer(loaded, {"text": "love"})) == {"answer"}
    assert loaded.version.libraries["code_that_registers:PairPipeline"].startswith("code_that_registers sha256:")
