"""The bridge from an author's adapter to the engine: what it returns is checked, what it raises fails its own job."""

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from models.errors import JobError, LoadFailed, ModelError
from models.pipelines.pipeline import Pipeline
from tests.factories.own_task.installed import PACKAGE, package_on_path, save_model
from worker.adapters.own.task_adapter import ModelRow
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

MAX_LENGTH = 32
TASK_ERROR = "task_error"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("package")
    with package_on_path(folder, entry_points={"irony": f"{PACKAGE}.tasks:IRONY"}):
        save_model(folder / "model")
        yield folder


@pytest.fixture(scope="module")
def adapter(package: Path) -> Any:
    return load(package).adapter


def load(package: Path, **fields: Any) -> runtime.Runtime:
    entry = {"name": "irony", "task": "irony", "model": str(package / "model"), "max_length": MAX_LENGTH, **fields}
    return runtime.load(Pipeline(**entry), "cpu", threads=1)


def test_numbers_that_an_authors_code_changes_in_place_are_no_other_models(package: Path) -> None:
    first, second = load(package), load(package)

    with torch.no_grad():
        before = [parameter.clone() for parameter in second.model.parameters()]
        for parameter in first.model.parameters():
            parameter.zero_()

    assert all(map(torch.equal, before, second.model.parameters()))


def job(text: str, position: int = 0, parameters: dict[str, Any] | None = None, **fields: Any) -> Job:
    lease = Lease(0, "batch_1", 0, 1, 0, 0, parameters=parameters or {})
    return Job(lease, position, _stored(text, **fields))


def _stored(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, "context": None, "tags": [], "weight": 1.0, **fields}


def answer(adapter: Any, *jobs: Job) -> list[Any]:
    """The results of jobs that run in one pass for each of their keys."""
    encoded = adapter.encode(jobs)
    by_key: dict[Any, list[Any]] = {}
    for row in [row for rows in encoded for row in rows]:
        by_key.setdefault(row.key, []).append(row)
    outputs = {id(row): raw for rows in by_key.values() for row, raw in zip(rows, forward(adapter, rows), strict=True)}
    return [adapter.decode(rows, [outputs[id(row)] for row in rows]) for rows in encoded]


def forward(adapter: Any, rows: list[Any]) -> list[Any]:
    outputs: list[Any] = adapter.forward(MicroBatch(tuple(rows)))
    return outputs


def error_of(adapter: Any, text: str) -> JobError:
    [encoded] = adapter.encode([job(text)])
    if isinstance(encoded, JobError):
        return encoded
    with pytest.raises(JobError) as raised:
        adapter.decode(encoded, forward(adapter, encoded))
    return raised.value


def test_an_input_is_answered_alone_as_in_company(adapter: Any) -> None:
    texts = ("a great product", "it", "the product that I hate so much that it hurts")
    alone = [answer(adapter, job(text, context="the"))[0] for text in texts]

    together = answer(adapter, *(job(text, place, context="the") for place, text in enumerate(texts)))

    assert together == alone
    assert len({result["ironic"] for result in alone}) == 3


def test_parameters_come_with_defaults_and_keep_rows_apart(adapter: Any) -> None:
    jobs = [job("a great one"), job("a great one", 1, {"digits": 1}), job("a great one", 2, {"style": "verbose"})]

    plain, rounded, verbose = answer(adapter, *jobs)

    assert rounded["ironic"] == round(plain["ironic"], 1)
    assert verbose == {**plain, "rows": 1}
    assert len({rows[0].key for rows in adapter.encode(jobs)}) == 3


def test_what_a_method_changes_stays_with_its_call(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    author = adapter._author
    encode, run, decode = author.encode, author.forward, author.decode

    def greedy(method: Any) -> Any:
        def call(first: Any, parameters: Any, *others: Any) -> Any:
            result = method(first, parameters, *others)
            parameters.update(digits=0, style="verbose")
            first.clear()
            return result

        return call

    expected = answer(adapter, job("a great one", tags=["a"]), job("it", 1))
    for name, method in (("encode", encode), ("forward", run), ("decode", decode)):
        monkeypatch.setattr(author, name, greedy(method))
    jobs = [job("a great one", tags=["a"]), job("it", 1)]

    assert answer(adapter, *jobs) == expected
    assert answer(adapter, *jobs) == expected
    assert jobs[0].input == _stored("a great one", tags=["a"])


def test_inputs_encoded_one_by_one_are_as_they_were_before_all_together(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_many(inputs: Any, _parameters: Any) -> Any:
        if len(inputs) > 1:
            for each in inputs:
                each["tags"].append("changed")
            raise ValueError
        assert inputs[0]["tags"] == ["a"]
        return [adapter._author.encode(inputs[0], {})]

    monkeypatch.setattr(type(adapter._author), "encode_many", staticmethod(encode_many))

    encoded = adapter.encode([job("it", tags=["a"]), job("a great one", 1, tags=["a"])])

    assert all(isinstance(rows, list) for rows in encoded)


def test_equal_parameters_share_a_pass(adapter: Any) -> None:
    first, second = adapter.encode([job("a great one"), job("it", 1, {"digits": 4})])

    assert first[0].key == second[0].key


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("raise private", TASK_ERROR, "encode of task irony raised ValueError"),
        ("refuse", "too_ironic", "it is too ironic; say it plainly"),
        ("none", TASK_ERROR, "gave a NoneType where it must give a ModelRow"),
        ("norows", TASK_ERROR, "gave 0 rows for one input"),
        ("many", TASK_ERROR, "gave 20,000 rows for one input"),
        ("noids", TASK_ERROR, "without input_ids"),
        ("ragged", TASK_ERROR, "not of equal length"),
        ("texts", TASK_ERROR, "input_ids that is no list of whole numbers"),
        ("nested", TASK_ERROR, "input_ids that is no list of whole numbers"),
        ("padded", TASK_ERROR, "a row with padding"),
        ("negative", TASK_ERROR, "negative or too large"),
        ("unhashable", TASK_ERROR, "whose key can't be hashed"),
        ("unknown", "unknown_token", "a token that the model lacks"),
        ("long", "input_too_long", "it has 100 tokens; this pipeline takes 32"),
        ("love", TASK_ERROR, "forward of task irony raised RuntimeError"),
        ("terrible", TASK_ERROR, "forward of task irony gave a dict where it must give one output for each of 1 rows"),
        ("break private", TASK_ERROR, "decode of task irony raised KeyError"),
        ("nan", "invalid_output", "numbers that are not finite"),
        ("tensor", TASK_ERROR, "decode of task irony gave a Tensor, which JSON can't hold"),
        ("bytes", TASK_ERROR, "decode of task irony gave a bytes, which JSON can't hold"),
        ("nothing", TASK_ERROR, "decode of task irony returned None where it must return a result"),
        ("digits", TASK_ERROR, "decode of task irony gave a whole number of more than 64 bits"),
        ("words", "too_ironic", "it is too ironic; say it plainly"),
        ("numbers", TASK_ERROR, "an object with a key that is no text"),
        ("huge", "output_too_large", "more than 1,000,000 values or 10,000,000 characters"),
    ],
)
def test_a_mistake_of_the_author_fails_its_job(adapter: Any, text: str, code: str, words: str) -> None:
    with capture_logs() as logs:
        error = error_of(adapter, text)

    assert error.code == code
    assert words in str(error)
    assert "private" not in f"{error}{logs}"


def test_what_an_author_raises_is_logged_by_its_type_and_job(adapter: Any) -> None:
    with capture_logs() as logs:
        error_of(adapter, "raise private")

    [line] = logs
    assert (line["event"], line["method"], line["error"], line["batch_id"]) == (
        "task.failed",
        "encode",
        "ValueError",
        "batch_1",
    )


def test_a_busy_resource_is_left_to_the_engine_to_try_again(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_arguments: Any) -> Any:
        raise ConnectionError("private")

    for method, call in (
        ("encode", lambda: adapter.encode([job("it")])),
        ("decode", lambda: answer(adapter, job("it"))),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(adapter._author, method, busy)
            with pytest.raises(ConnectionError):
                call()


def test_a_failure_of_many_rows_is_left_to_the_engine(adapter: Any) -> None:
    rows = [rows[0] for rows in adapter.encode([job("love"), job("it", 1)])]

    with pytest.raises(RuntimeError):
        forward(adapter, rows)


def test_an_input_without_the_defaults_is_completed_if_a_prompt_made_it(adapter: Any) -> None:
    prompted = dataclasses.replace(job("x").lease, prompt=object())  # type: ignore[arg-type]

    [rows] = adapter.encode([Job(prompted, 0, {"text": "it", "weight": "2"})])

    assert rows[0].job.input == _stored("it", weight=2.0)


def test_the_loaded_version_names_the_code(package: Path) -> None:
    loaded = load(package)

    assert loaded.version.libraries["task"] == "irony-tasks 1.2.0"
    assert loaded.version.task == "irony"


@pytest.mark.parametrize("fields", [{"quantization": "int8"}, {"deterministic": True}, {"dtype": "bfloat16"}])
def test_other_ways_to_load_answer_alike_in_company(package: Path, fields: dict[str, Any]) -> None:
    adapter = load(package, **fields).adapter
    jobs = [job("a great product"), job("it", 1), job("the product that I hate so much", 2)]

    rows = [rows[0] for rows in adapter.encode(jobs)]
    alone = [forward(adapter, [row])[0].value for row in rows]
    for key in {row.key for row in rows}:
        shared = [index for index, row in enumerate(rows) if row.key == key]
        for index, raw in zip(shared, forward(adapter, [rows[index] for index in shared]), strict=True):
            tolerance = 2e-2 if "dtype" in fields else 0.0 if "deterministic" in fields else 1e-5
            assert torch.allclose(raw.value["moods"], alone[index]["moods"], rtol=0, atol=tolerance)


def test_a_model_without_all_weights_is_refused(package: Path, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "half")
    kept = {name: value for name, value in load_file(folder / "model.safetensors").items() if "mood" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match="it has no weights for mood"):
        load(package, model=str(folder))


def test_a_task_may_do_without_a_tokenizer(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    author = importlib.import_module(f"{PACKAGE}.adapter").IronyAdapter
    monkeypatch.setattr(author, "uses_tokenizer", False)
    monkeypatch.setattr(author, "_row", lambda _self, text: ModelRow({"input_ids": [5 + len(text) % 7, 9]}, data=text))
    monkeypatch.setattr(author, "forward", lambda self, tensors, _parameters: self.model(**tensors))

    adapter: Any = load(package, model=str(folder)).adapter

    assert adapter._author.tokenizer is None
    assert adapter._rows.sharing is Sharing.TOGETHER
    assert answer(adapter, job("it"))[0]["mood"] in ("angry", "calm", "glad")


def test_an_adapter_that_is_none_can_be_mended_on_this_machine(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module(f"{PACKAGE}.adapter"), "IronyAdapter", dict)

    with pytest.raises(LoadFailed, match=r"must be a class derived from batchmill.TaskAdapter"):
        load(package)


def test_packages_of_other_devices_say_nothing_when_an_adapter_is_imported() -> None:
    program = (
        "import worker.adapters.own.own_task, importlib.util\nif importlib.util.find_spec('torchao'): import torchao"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)

    assert done.stderr == ""
