"""Golden cases: inputs and parameters for pipelines of transformers 4, and their recorded outputs."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN_FOLDER = Path(__file__).parent

# Key of an output that holds what the pipeline raised instead.
ERROR_KEY = "failed"


@dataclass(frozen=True)
class Case:
    """A model, by the function that creates it in a folder, with inputs and sets of parameters.

    An input is what `pipeline(task)` takes as its one positional argument.
    """

    make_model: Callable[[Path], Path]
    task: str
    inputs: Sequence[Any]
    parameters: Sequence[Mapping[str, Any]]

    def __str__(self) -> str:
        return self.make_model.__name__

    @property
    def input_hash(self) -> str:
        """Hash of inputs and parameters, to notice a change without new outputs."""
        content = json.dumps([self.task, list(self.inputs), [dict(parameters) for parameters in self.parameters]])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Golden:
    """The recorded outputs of a case, for each set of parameters and each input; `model_hash` covers the folder."""

    model_hash: str
    input_hash: str
    outputs: list[list[Any]]


def load_cases(name: str) -> Sequence[Case]:
    """Return the cases of the module `tests/golden/<name>.py`."""
    cases: Sequence[Case] = importlib.import_module(f"tests.golden.{name}").CASES
    return cases


def load_golden(name: str, case: Case) -> Golden:
    """Return the recorded outputs of a case from `tests/golden/<name>.json`."""
    return Golden(**json.loads((GOLDEN_FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"][str(case)])
