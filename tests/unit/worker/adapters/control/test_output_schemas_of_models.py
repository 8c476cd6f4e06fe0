"""Output schemas with other models, tokenizers and parameters."""

import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import JobError, LoadFailed
from models.pipelines.pipeline import Pipeline
from tests.factories import logits_controls, tiny_decoders
from tests.factories.forward_passes import TEXTS, encode_texts, forward_all, load_adapter
from tests.factories.tiny_decoders import VOCABULARY
from worker.adapters.control import output_schemas
from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

GREEDY = {"do_sample": False, "max_new_tokens": 40}
PATTERN = "[a-f]{2,5}(ü|😀)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.llama(tmp_path_factory.mktemp("llama"), generation={})


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Any:
    return load_adapter(folder)


def texts_of(adapter: Any, rows: Sequence[Row]) -> list[str]:
    return [
        record["generated_text"]
        for batch in planning.plan_micro_batches(rows, 10_000, adapter.max_rows)
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True)
        for record in adapter.decode([row], [raw])
    ]


def error_of(adapter: Any, rows: Sequence[Row]) -> JobError:
    with pytest.raises(JobError) as error:
        texts_of(adapter, rows)
    return error.value


@pytest.mark.parametrize("parameters", [GREEDY, {"seed": 5, "max_new_tokens": 40}], ids=["greedy", "seeded"])
def test_a_text_counts_its_tokens_up_to_the_end_of_its_schema_also_beside_longer_ones(
    adapter: Any, parameters: dict[str, Any]
) -> None:
    rows = encode_texts(adapter, TEXTS, output_schema=PATTERN, **parameters)

    together, alone = forward_all(adapter, rows), {}
    for row in rows:
        alone |= forward_all(adapter, [row])

    assert together == alone
    assert {place: texts.tokens for place, texts in together.items()} == {
        place: texts.tokens for place, texts in alone.items()
    }
    assert len({texts.tokens for texts in together.values()}) > 1
    assert all(texts.has_ended for texts in together.values())


def test_a_text_that_meets_its_schema_with_the_last_token_is_not_cut_off(adapter: Any) -> None:
    schema = {"output_schema": "[a-f]{3}", "do_sample": False}
    [texts] = forward_all(adapter, encode_texts(adapter, ["love"], max_new_tokens=40, **schema)).values()

    [at_limit] = forward_all(adapter, encode_texts(adapter, ["love"], max_new_tokens=texts.tokens, **schema)).values()

    assert at_limit == texts
    assert (at_limit.tokens, at_limit.has_ended) == (len(texts[0]), True)


@pytest.mark.parametrize("architecture", ["gpt2", "mistral", "bloom"])
@pytest.mark.parametrize("parameters", [GREEDY, {"seed": 5, "max_new_tokens": 40}], ids=["greedy", "seeded"])
def test_every_architecture_follows_it(tmp_path: Path, architecture: str, parameters: dict[str, Any]) -> None:
    adapter = load_adapter(getattr(tiny_decoders, architecture)(tmp_path, generation={}))

    texts = texts_of(adapter, encode_texts(adapter, TEXTS, output_schema=PATTERN, **parameters))

    assert len(texts) == len(TEXTS)
    assert all(re.fullmatch(PATTERN, text) for text in texts)


@pytest.mark.parametrize("vocabulary", [len(VOCABULARY) + 9, len(VOCABULARY)])
@pytest.mark.parametrize("end", [None, [0, 2], 0], ids=["no-end", "two-ends", "one-end"])
def test_a_model_with_other_end_tokens_or_more_scores(tmp_path: Path, vocabulary: int, end: Any) -> None:
    made = tiny_decoders.llama(tmp_path, generation={"eos_token_id": end}, eos_token_id=end, vocab_size=vocabulary)
    adapter = load_adapter(made)

    texts = texts_of(adapter, encode_texts(adapter, TEXTS, output_schema=PATTERN, **GREEDY))
    open_ended = texts_of(adapter, encode_texts(adapter, TEXTS, output_schema="[ab]{2,}", **GREEDY))

    assert all(re.fullmatch(PATTERN, text) for text in texts)
    assert all(re.fullmatch("[ab]{2,}", text) for text in open_ended)
    assert all(len(text) <= 40 for text in open_ended)


def test_a_deterministic_pipeline_follows_it(folder: Path) -> None:
    adapter = load_adapter(folder, deterministic=True)

    together = texts_of(adapter, encode_texts(adapter, TEXTS, output_schema=PATTERN, **GREEDY))

    assert all(re.fullmatch(PATTERN, text) for text in together)


def test_several_texts_of_a_row_all_meet_it(adapter: Any) -> None:
    rows = encode_texts(adapter, ["a"], output_schema=PATTERN, seed=1, num_return_sequences=4, max_new_tokens=40)

    raw = adapter.forward(MicroBatch(tuple(rows)))
    texts = [record["generated_text"] for record in adapter.decode(rows, raw)]

    assert len(set(texts)) > 1
    assert all(re.fullmatch(PATTERN, text) for text in texts)


def test_an_answer_to_messages_is_the_text_alone(adapter: Any) -> None:
    lease = Lease(1, "batch", 0, 1, 1, 1, parameters={"output_schema": PATTERN, **GREEDY})
    [rows] = adapter.encode([Job(lease, 0, {"messages": [{"role": "user", "content": "hello"}]})])

    [text] = texts_of(adapter, rows)

    assert re.fullmatch(PATTERN, text)


@pytest.mark.parametrize(
    "parameters", [{"skip_special_tokens": False}, {"min_new_tokens": 30}, {"add_special_tokens": True}]
)
def test_parameters_that_change_texts_do_not_change_what_is_met(adapter: Any, parameters: dict[str, Any]) -> None:
    texts = texts_of(adapter, encode_texts(adapter, TEXTS, output_schema=PATTERN, **GREEDY, **parameters))

    assert all(re.fullmatch(PATTERN, text) for text in texts)


@pytest.mark.parametrize(
    ("schema", "parameters"),
    [
        ("b{30}", {"max_new_tokens": 10}),
        ("b{30}", {"stop_strings": "bbb"}),
        ("bbbb", {"no_repeat_ngram_size": 1}),
        ("(((b{100}){100}){100})", {}),
    ],
)
def test_a_row_that_cannot_meet_it_fails(adapter: Any, schema: str, parameters: dict[str, Any]) -> None:
    error = error_of(adapter, encode_texts(adapter, ["a"], output_schema=schema, **GREEDY | parameters))

    assert error.code == "schema_unmet"


def test_a_row_without_time_fails(adapter: Any) -> None:
    rows = encode_texts(adapter, ["a"], output_schema="b{30}", max_time=1e-9, **GREEDY)

    [raw] = adapter.forward(MicroBatch(tuple(rows)))

    assert raw.is_out_of_time
    assert not raw.has_ended
    with pytest.raises(JobError, match="ended before it met its output_schema"):
        adapter.decode(rows, [raw])


def test_a_text_that_meets_it_where_it_is_cut_succeeds(adapter: Any) -> None:
    rows = encode_texts(adapter, ["a"], output_schema="[bc]+", **GREEDY | {"max_new_tokens": 4, "min_new_tokens": 4})

    [text] = texts_of(adapter, rows)

    assert re.fullmatch("[bc]{4}", text)


def test_processors_run_before_it(folder: Path) -> None:
    adapter = load_adapter(folder, logits_processors=[f"{logits_controls.MODULE}:NoDigits"])

    rows = encode_texts(adapter, TEXTS, output_schema=r"[\da-f]{6}", **GREEDY)
    texts = texts_of(adapter, rows)

    assert all(re.fullmatch("[a-f]{6}", text) for text in texts)
    assert error_of(adapter, encode_texts(adapter, ["a"], output_schema=r"\d", **GREEDY)).code == "schema_unmet"


def test_beams_of_the_models_own_choice_are_refused(tmp_path: Path) -> None:
    adapter = load_adapter(tiny_decoders.llama(tmp_path, generation={"num_beams": 2}))
    lease = Lease(1, "batch", 0, 1, 1, 1, parameters={"output_schema": PATTERN, "do_sample": False})

    [error] = adapter.encode([Job(lease, 0, {"text": "a"})])

    assert isinstance(error, JobError)
    assert (error.code, str(error)) == ("invalid_parameters", "output_schema takes no beams; set num_beams to 1")


def test_a_tokenizer_that_does_not_spell_its_texts_is_refused() -> None:
    file = Path(__file__).resolve().parents[5] / "models/samples/ner/tokenizer.json"
    word_pieces = SimpleNamespace(backend_tokenizer=SimpleNamespace(to_str=file.read_text))

    with pytest.raises(JobError, match="do not spell its texts") as error:
        OutputSchemas(word_pieces, [1]).check("a")
    assert error.value.code == "invalid_parameters"


def test_where_the_library_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    monkeypatch.setattr(output_schemas, "find_spec", lambda _name: None)
    adapter = load_adapter(folder)
    lease = Lease(1, "batch", 0, 1, 1, 1, parameters={"output_schema": PATTERN})

    [error] = adapter.encode([Job(lease, 0, {"text": "a"})])

    assert isinstance(error, JobError)
    assert error.code == "missing_package"
    assert "pip install 'batchmill[structured]'" in str(error)
    entry = Pipeline(name="a", task="text-generation", model=str(folder), parameters={"output_schema": PATTERN})
    with pytest.raises(LoadFailed, match=r"pip install 'batchmill\[structured\]'"):
        runtime.load(entry, "cpu", threads=1)


def test_few_compiled_schemas_are_kept(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_schemas, "MAX_COMPILED", 3)
    schemas = OutputSchemas(adapter._tokenizer, [0])

    for index in range(9):
        schemas.check(f"a{{{index + 1}}}")

    assert len(schemas._compiled) == 3


def test_the_library_is_part_of_the_model_version(folder: Path) -> None:
    entry = Pipeline(name="a", task="text-generation", model=str(folder))

    assert runtime.load(entry, "cpu", threads=1).version.libraries["llguidance"] == metadata.version("llguidance")
