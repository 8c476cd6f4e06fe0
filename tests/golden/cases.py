"""Golden cases: what was asked of a pipeline of transformers 4, and what it answered."""

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOLDEN_FOLDER = Path(__file__).parent

# The key under which an answer says what the pipeline raised instead.
ERROR_KEY = "failed"


@dataclass(frozen=True)
class Case:
    """A model, by the function that makes it in a folder, and what it is asked: each input with each set of parameters.

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
        """A hash of all that is asked, so that a change of it without new answers is noticed."""
        whole = json.dumps([self.task, list(self.inputs), [dict(each) for each in self.parameters]])
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Golden:
    """The answers to a case: for each set of parameters, for each input. `made` is the digest of the model's folder."""

    made: str
    asked: str
    answers: list[list[Any]]


def load_cases(name: str) -> Sequence[Case]:
    """The cases of the module `tests/golden/<name>.py`."""
    found: Sequence[Case] = importlib.import_module(f"tests.golden.{name}").CASES
    return found


def load_golden(name: str, case: Case) -> Golden:
    """What `tests/golden/<name>.json` holds for a case."""
    return Golden(**json.loads((GOLDEN_FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"][str(case)])
