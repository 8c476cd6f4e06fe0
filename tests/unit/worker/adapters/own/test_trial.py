"""The trial at load: a task whose outputs depend on padding, other rows or earlier passes shares no such passes."""

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModel

from batchmill import Task, TaskInput, Text
from models.errors import ModelError, SettingsError
from models.tasks.own.own_spec import make_spec
from worker.adapters.interface import Limits
from worker.adapters.own import own_task, trial
from worker.adapters.own.task_adapter import ModelRow, TaskAdapter
from worker.adapters.own.task_errors import EndingRaised
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch
from worker.leasing.leases import Job, Lease


class Letters(TaskInput):
    text: Text


class Base(TaskAdapter):
    """Adds up the codes of a text's letters."""

    model_class = AutoModel

    def encode(self, input: Mapping[str, Any], parameters: Mapping[str, Any]) -> Any:  # noqa: A002
        return ModelRow({"input_ids": [ord(letter) for letter in input["text"]]})

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return (tensors["input_ids"] * tensors["attention_mask"]).sum(1) / 100

    def decode(
        self,
        input: Mapping[str, Any],  # noqa: A002
        parameters: Mapping[str, Any],
        rows: Sequence[ModelRow],
        outputs: Sequence[Any],
    ) -> Any:
        return float(outputs[0])


class Unpaddable(Base):
    can_pad = False


class Padded(Base):
    """Counts the padding too."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return super().forward(tensors, parameters) + tensors["input_ids"].shape[1]


class PaddedTokens(Base):
    """Gives a number for each token, padding included, and reads only those of the text."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return tensors["input_ids"].float()

    def decode(self, input: Any, parameters: Any, rows: Sequence[ModelRow], outputs: Sequence[Any]) -> Any:  # noqa: A002
        return outputs[0][: len(rows[0].features["input_ids"])].tolist()


class Normalized(Base):
    """Subtracts the mean of all rows."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        sums = super().forward(tensors, parameters)
        return sums - sums.mean()


class Ranked(Base):
    """Gives the same tensors in any pass, whose sum is the position of the row."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return [{"sum": value, "row": row} for row, value in enumerate(super().forward(tensors, parameters))]

    def decode(self, input: Any, parameters: Any, rows: Sequence[ModelRow], outputs: Sequence[Any]) -> Any:  # noqa: A002
        return float(outputs[0]["sum"])


class Unpassable(Base):
    """Can't read two rows."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        [row] = super().forward(tensors, parameters)
        return [row]


class Broken(Base):
    """Fails on every input."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        raise ValueError("private")


class TooFew(Base):
    """Loses a row."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return super().forward(tensors, parameters)[1:]


class Random(Base):
    """Draws random numbers."""

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        return torch.rand(len(tensors["input_ids"]))


class Counting(Base):
    """Counts its passes."""

    passes = 0

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        self.passes += 1
        return super().forward(tensors, parameters) + self.passes


class Hanging(Base):
    """Does not come back."""

    ended = threading.Event()

    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        self.ended.wait(60)
        return super().forward(tensors, parameters)


class Folder(Base):
    """Reads a file of its own."""

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        return int((folder / "limit.txt").read_text())


class Together(Base):
    """Encodes and decodes many at once."""

    def encode_many(self, inputs: Any, parameters: Any) -> Any:
        if any(one["text"] == "break" for one in inputs):
            raise ValueError("private")
        return [self.encode(one, parameters) for one in inputs if one["text"] != "lose"]

    def decode_many(self, inputs: Any, parameters: Any, rows: Any, outputs: Any) -> Any:
        return [{"sum": float(raw)} for [raw] in outputs]


def make(
    author: type[TaskAdapter], monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None, **fields: Any
) -> Any:
    """The adapter of a task with this class, loaded with a model that nothing reads."""
    task = Task(
        name="letters",
        summary="Add up letters.",
        adapter="some.module:Adapter",
        input=Letters,
        output="number",
        example_input={"text": "some letters to add"},
        example_output=1.0,
        **fields,
    )
    monkeypatch.setattr(own_task.operator_code, "load_object", lambda _reference: author)
    config = SimpleNamespace(vocab_size=1_000, type_vocab_size=0)
    model = SimpleNamespace(
        config=config, device=torch.device("cpu"), dtype=torch.float32, modules=list, get_input_embeddings=lambda: None
    )
    tokenizer = SimpleNamespace(pad_token_id=0, pad_token_type_id=0, padding_side="right")
    made = own_task.adapter_class(make_spec(task, "some.module:TASK"))
    return made(model, tokenizer, limits or Limits(None, pipeline="letters"), "letters")


def encode(adapter: Any, *texts: str) -> list[Any]:
    lease = Lease(0, "batch_1", 0, 1, 0, 0)
    encoded: list[Any] = adapter.encode([Job(lease, place, {"text": text}) for place, text in enumerate(texts)])
    return encoded


@pytest.mark.parametrize(
    ("author", "sharing"),
    [
        (Base, Sharing.TOGETHER),
        (PaddedTokens, Sharing.TOGETHER),
        (Together, Sharing.TOGETHER),
        (Unpaddable, Sharing.BY_LENGTH),
        (Padded, Sharing.BY_LENGTH),
        (Normalized, Sharing.ALONE),
        (Ranked, Sharing.ALONE),
        (Unpassable, Sharing.ALONE),
        (Broken, Sharing.ALONE),
        (TooFew, Sharing.ALONE),
    ],
)
def test_rows_share_passes_only_where_that_changes_nothing(
    author: type[TaskAdapter], sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make(author, monkeypatch)

    [short], [long], [other] = encode(adapter, "ab", "abcd", "ba")

    assert adapter._rows.sharing is sharing
    assert (short.key == long.key) is (sharing is Sharing.TOGETHER)
    assert short.key == other.key
    assert short.max_rows == (1 if sharing is Sharing.ALONE else None)


def test_a_sampling_task_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(Random, monkeypatch, is_random=lambda _parameters: True)

    assert adapter._rows.sharing is Sharing.ALONE


@pytest.mark.parametrize("author", [Random, Counting])
def test_a_task_that_gives_other_outputs_for_the_same_input_is_refused(
    author: type[TaskAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="task letters gave its example input two different outputs"):
        make(author, monkeypatch)


def test_a_trial_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"task letters did not answer its example input within 0\.05 s"):
        make(Hanging, monkeypatch, Limits(None, trial_seconds=0.05))

    Hanging.ended.set()
    while any(thread.name == "task-trial" for thread in threading.enumerate()):
        time.sleep(0.001)


def test_a_slow_task_is_not_tried_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.TaskTrial.__init__, "__kwdefaults__", {"max_seconds": 0.0})

    adapter = make(Base, monkeypatch)

    assert adapter._rows.sharing is Sharing.ALONE


class Panic(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt, GeneratorExit, Panic])
def test_an_ending_in_an_authors_code_fails_only_its_job(
    ending: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make(Base, monkeypatch)

    def end(*_arguments: Any) -> Any:
        raise ending

    monkeypatch.setattr(adapter._author, "encode", end)
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.extend(encode(adapter, "ab")))
    thread.start()
    thread.join()

    assert f"encode of task letters raised {ending.__name__} at test_trial.py, line" in str(errors[0])


def test_ctrl_c_ends_what_runs_an_adapter_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(Base, monkeypatch)

    def interrupt(*_arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(adapter._author, "encode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encode(adapter, "ab")


def test_an_exit_in_an_authors_constructor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Base, "__init__", lambda *_: sys.exit(3))

    with pytest.raises(EndingRaised, match="the code raised SystemExit"):
        make(Base, monkeypatch)


def test_a_model_that_runs_out_of_memory_is_not_the_tasks_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Base, "forward", forward)

    with pytest.raises(MemoryError):
        make(Base, monkeypatch)


def test_deterministic_passes_have_a_fixed_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(Base, monkeypatch, Limits(64, deterministic=True))
    [first], [second] = encode(adapter, "ab", "abc")

    outputs = adapter.forward(MicroBatch((first, second)))

    assert (first.width, first.max_rows) == (16, 16)
    assert [float(output.value) for output in outputs] == pytest.approx([1.95, 2.94])


def test_further_files_of_the_model_may_name_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "limit.txt").write_text("12")
    made = type(make(Folder, monkeypatch))

    assert made.complete(None, None, tmp_path) == 12
    (tmp_path / "limit.txt").write_text("-1")
    with pytest.raises(ModelError, match="must return a number of tokens or None"):
        made.complete(None, None, tmp_path)


def test_what_fails_together_is_encoded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(Together, monkeypatch)

    good, broken, lost = encode(adapter, "ab", "break", "lose")

    assert good[0].length == 2
    assert "encode_many of task letters raised ValueError" in str(broken)
    assert "encode_many of task letters must give a list of 1, one for each input" in str(lost)


@pytest.mark.parametrize(
    ("author", "words"),
    [
        (dict, "must be a class derived from batchmill.TaskAdapter"),
        (type("A", (Base,), {"model_class": dict}), "model_class"),
    ],
)
def test_a_wrong_class_is_named(author: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=words):
        make(author, monkeypatch)


def test_many_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(Together, monkeypatch)
    rows = encode(adapter, "ab", "cd")
    outputs = adapter.forward(MicroBatch((rows[0][0], rows[1][0])))

    decoded = list(adapter.decode_many([(own, [raw]) for own, raw in zip(rows, outputs, strict=True)]))

    assert decoded == ['{"sum":1.9500000476837158}', '{"sum":1.9900000095367432}']


def test_variants_of_an_example_have_texts_of_other_lengths() -> None:
    variants = trial.vary_texts({"text": "one two three four", "labels": ["a"]})

    assert [len(variant["text"].split()) for variant in variants] == [4, 2, 8, 12]
    assert all(variant["labels"] == ["a"] for variant in variants)
