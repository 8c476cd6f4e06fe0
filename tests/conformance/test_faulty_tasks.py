"""Tasks of one's own with one fault each, as their authors would write them: what `batchmill tasks check` says."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.settings import Settings
from models.tasks.own import registry
from tests.factories import tiny_models
from worker.task_checks import process
from worker.task_checks.report import CheckResult

SECRET = "canary-4e8d"

RIGHT = """
import torch
from transformers import AutoModel
from batchmill import JobError, ModelRow, Parameters, Task, TaskAdapter, TaskInput, Text


class Input(TaskInput):
    text: Text


class Loudness(Parameters):
    loud: bool = False


TASK = Task(name="faulty", summary="s", adapter="faulty_task:Adapter", input=Input, output="o", parameters=Loudness,
            example_input={"text": "a great product"}, example_output={"mean": 0.5})


class Adapter(TaskAdapter):
    model_class = AutoModel
    kept = []

    def encode(self, input, parameters):
        return ModelRow({"input_ids": self.tokenizer(input["text"], truncation=True, max_length=64)["input_ids"]})

    def forward(self, tensors, parameters):
        states = self.model(**tensors).last_hidden_state
        mask = tensors["attention_mask"].unsqueeze(-1)
        return list(((states * mask).sum(1) / mask.sum(1))[:, 0])

    def decode(self, input, parameters, rows, outputs):
        return {"mean": float(outputs[0])}


class Faulty(Adapter):
"""

FAULTS = {
    "no fault": ("    pass\n", None, ""),
    "other rows": (
        "    def forward(self, tensors, parameters):\n"
        "        states = self.model(**tensors).last_hidden_state[:, 0, 0]\n"
        "        return list(states - states.mean())\n",
        "other rows",
        "gets another answer with other rows than alone",
    ),
    "padding": (
        "    def forward(self, tensors, parameters):\n"
        "        return list(self.model(**tensors).last_hidden_state.mean(1)[:, 0])\n",
        "other rows",
        "pool only a row's own tokens",
    ),
    "too few rows": (
        "    def forward(self, tensors, parameters):\n        return super().forward(tensors, parameters)[:1]\n",
        "other rows",
        "where it must give one output for each of",
    ),
    "state": (
        "    def forward(self, tensors, parameters):\n"
        "        self.kept.append(None)\n"
        "        return [output + (len(self.kept) > 35) for output in super().forward(tensors, parameters)]\n",
        "retry",
        "keeps something between calls",
    ),
    "random numbers": (
        "    def forward(self, tensors, parameters):\n"
        "        return [output + torch.rand(()) for output in super().forward(tensors, parameters)]\n",
        "loading",
        "two different outputs",
    ),
    "NaN": (
        "    def decode(self, input, parameters, rows, outputs):\n        return {'mean': float('nan')}\n",
        "example",
        "not finite",
    ),
    "a tensor": (
        "    def decode(self, input, parameters, rows, outputs):\n        return {'mean': outputs[0]}\n",
        "example",
        "decode of task faulty gave a Tensor, which JSON can't hold",
    ),
    "raises": (
        "    def decode(self, input, parameters, rows, outputs):\n        raise ValueError(input['text'], '"
        + SECRET
        + "')\n",
        "example",
        "decode of task faulty raised ValueError at faulty_task.py, line 37",
    ),
    "raises on some texts": (
        "    def encode(self, input, parameters):\n"
        "        return super().encode({'text': input['text'][input['text'].index('a'):]}, parameters)\n",
        "outputs",
        "encode of task faulty raised ValueError at faulty_task.py, line 37",
    ),
    "raises with a parameter": (
        "    def decode(self, input, parameters, rows, outputs):\n"
        "        return {'mean': float(outputs[0]) / (1 - parameters['loud'])}\n",
        "parameters",
        "with another value of loud, task_error: decode of task faulty raised ZeroDivisionError at faulty_task.py",
    ),
    "changes its parameters": (
        "    def encode(self, input, parameters):\n"
        "        parameters['loud'] = True\n"
        "        return super().encode(input, parameters)\n",
        "arguments",
        "encode changes its parameters",
    ),
    "changes its input": (
        "    def decode(self, input, parameters, rows, outputs):\n"
        "        input.clear()\n"
        "        return super().decode(input, parameters, rows, outputs)\n",
        "arguments",
        "decode changes its input",
    ),
    "no limit": (
        "    def encode(self, input, parameters):\n"
        "        return ModelRow({'input_ids': self.tokenizer(input['text'])['input_ids']})\n",
        None,
        "",
    ),
    "tensors kept": (
        "    def forward(self, tensors, parameters):\n"
        "        self.kept.append(tensors)\n"
        "        return super().forward(tensors, parameters)\n",
        "memory",
        "keep nothing of them",
    ),
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    tiny_models.distilbert(tmp_path / "model")
    (tmp_path / "batchmill.toml").write_text(
        f'[pipelines.faulty]\ntask = "faulty_task:TASK"\nmodel = "{tmp_path / "model"}"\n'
    )
    monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Settings.load()
    sys.modules.pop("faulty_task", None)
    registry._specs.pop("faulty", None)


def check(settings: Settings, folder: Path, code: str) -> list[CheckResult]:
    (folder / "faulty_task.py").write_text(RIGHT.replace("faulty_task:Adapter", "faulty_task:Faulty") + code)
    return list(process.run(settings, "faulty", "cpu", (400, 5.0), lambda _message: None))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str, settings: Settings, tmp_path: Path) -> None:
    code, expected, words = FAULTS[fault]

    results = check(settings, tmp_path, code)

    failed = {result.check: result.message for result in results if result.outcome == "failed"}
    assert SECRET not in str(failed)
    if expected is None:
        assert failed == {}
    else:
        assert words in failed.get(expected, ""), failed
