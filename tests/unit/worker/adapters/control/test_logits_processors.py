"""Logits processors: each row is processed by itself, and one that fails fails alone."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.errors import JobError, LoadFailed
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from tests.factories import logits_controls, tiny_decoders
from tests.factories.forward_passes import TEXTS, encode_texts, forward_all, load_adapter
from worker.adapters.rows import Row
from worker.loading import runtime

GREEDY = {"do_sample": False, "max_new_tokens": 12}
MARKED = [
    "Once",
    "raise it",
    "own words",
    "shape up",
    "none at all",
    "nan nan",
    "empty",
    "exit now",
    "Twice upon",
    "code",
    "keyboard",
    "generator",
]
CODES = {1: "processor_error", 2: "own_code"} | dict.fromkeys((3, 4, 5, 6, 7, 9, 10, 11), "processor_error")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.llama(tmp_path_factory.mktemp("llama"), generation={})


def load(folder: Path, *names: str, **fields: Any) -> Any:
    references = [f"{logits_controls.MODULE}:{name}" for name in names]
    return load_adapter(folder, logits_processors=references, **fields)


def generate(adapter: Any, texts: Sequence[str], token_budget: int = 10_000, **parameters: Any) -> dict[Any, Any]:
    return forward_all(adapter, encode_texts(adapter, texts, **parameters), token_budget)


def texts_of(adapter: Any, raw: dict[tuple[int, int], Any]) -> list[str]:
    return [adapter._tokenizer.decode(ids) for sequences in raw.values() for ids in sequences]


@pytest.mark.parametrize("name", ["NoDigits", "no_digits", "suppress_digits"])
@pytest.mark.parametrize(
    "parameters",
    [GREEDY, {"seed": 7, "max_new_tokens": 12}, {"num_beams": 3, "do_sample": False, "max_new_tokens": 12}],
)
def test_it_changes_texts_in_every_kind_of_search(folder: Path, name: str, parameters: dict[str, Any]) -> None:
    free, adapter = load_adapter(folder), load(folder, name)
    assert any(sign.isdigit() for text in texts_of(free, generate(free, TEXTS, **parameters)) for sign in text)

    together = generate(adapter, TEXTS, **parameters)

    assert not any(sign.isdigit() for text in texts_of(adapter, together) for sign in text)
    assert together == generate(adapter, TEXTS, token_budget=1, **parameters)


def test_rows_that_enter_late_are_processed_by_themselves(folder: Path) -> None:
    adapter = load(folder, "count_up")
    rows = encode_texts(adapter, TEXTS, **GREEDY)
    waiting = rows[2:]

    def fetch_more(count: int) -> list[Row]:
        taken = waiting[:count]
        del waiting[:count]
        return taken

    finished = [pair for group in adapter.generate(rows[:2], fetch_more, 3) for pair in group]

    assert len(finished) == len(TEXTS)
    for row, sequences in finished:
        start = 5 + row.length
        assert sequences == [list(range(start, start + GREEDY["max_new_tokens"]))]


@pytest.mark.parametrize("name", ["Fragile", "FragileMany"])
@pytest.mark.parametrize("parameters", [GREEDY, {"seed": 7, "max_new_tokens": 12}, {**GREEDY, "num_beams": 2}])
def test_one_that_fails_fails_its_row_alone(folder: Path, name: str, parameters: dict[str, Any]) -> None:
    free = generate(load_adapter(folder), MARKED, **parameters)

    raw = generate(load(folder, name), MARKED, **parameters)

    assert {position: output.code for (position, _), output in raw.items() if isinstance(output, JobError)} == CODES
    assert str(raw[1, 0]).startswith(f"{logits_controls.MODULE}:{name} raised ValueError at logits_controls.py, line ")
    assert not any("secret" in str(output) for output in raw.values())
    assert [raw[key] for key in ((0, 0), (8, 0))] == [free[key] for key in ((0, 0), (8, 0))]


def test_one_that_fails_leaves_the_run(folder: Path) -> None:
    """It ends after its third token, not at the limit, and makes room."""
    adapter = load(folder, "Fragile")
    rows = encode_texts(adapter, ["raise it", "Once"], **GREEDY)

    [first, *_] = adapter.generate(rows, lambda _count: (), 2)

    assert [row.job.position for row, _ in first] == [0]


def test_several_run_in_their_order(folder: Path) -> None:
    adapter = load(folder, "count_up", "Fragile")

    raw = generate(adapter, ["love it", "raise it"], **GREEDY)

    assert len(raw[0, 0][0]) == GREEDY["max_new_tokens"]
    assert isinstance(raw[1, 0], JobError)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "has no missing"),
        ("broken", "can't be called"),
        ("Mixing", "other scores by call_many"),
        ("exiting", r"can't be made .*SystemExit: 3"),
        ("raising", r"can't be made .*ValueError: no file"),
    ],
)
def test_one_that_cannot_be_loaded_is_a_problem_of_this_machine(folder: Path, name: str, problem: str) -> None:
    with pytest.raises(LoadFailed, match=problem):
        load(folder, name)


def test_the_example_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    page = (Path(__file__).resolve().parents[5] / "docs/how-to/structured-output.md").read_text("utf-8")
    [code] = re.findall(r"```python\n# no_digits.py.*?\n(.*?)```", page, re.DOTALL)
    [toml] = re.findall(r"```toml\n(\[pipelines.stories\].*?)```", page, re.DOTALL)
    (tmp_path / "no_digits.py").write_text(code)
    (tmp_path / "batchmill.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    request.addfinalizer(lambda: sys.modules.pop("no_digits", None))

    loaded = runtime.load(Catalogue.load(Settings())["stories"], "cpu", threads=1)

    assert re.fullmatch(r"no_digits sha256:[0-9a-f]{12}", loaded.version.libraries["no_digits:NoDigits"])
    raw = generate(loaded.adapter, ["In 1984, there were 12"], do_sample=False, max_new_tokens=20)
    assert not any(sign.isdigit() for text in texts_of(loaded.adapter, raw) for sign in text)
