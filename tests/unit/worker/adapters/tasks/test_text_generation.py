"""The generation adapter: what the conformance tests can't see from outside."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline as transformers_pipeline

from models import tasks
from models.errors import JobError, ModelError
from tests.factories import tiny_decoders, tiny_models
from tests.factories.tiny_decoders import VOCABULARY, byte_level_tokenizer, pipeline_for
from worker.adapters.generation.sampling import seed_generators
from worker.adapters.rows import Row
from worker.adapters.tasks.text_generation import TextGeneration
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

TEXTS = ["a", "love it", "the loved the loved", "x" * 25, "world", "great " * 5, "0 1 2", "hi"]
GREEDY = {"do_sample": False, "max_new_tokens": 10}


def jobs(inputs: Sequence[Any], **parameters: Any) -> list[Job]:
    spec = tasks.find_spec("text-generation")
    checked = spec.check_parameters(parameters)
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=checked)
    return [Job(lease, position, spec.normalise(document, checked)) for position, document in enumerate(inputs)]


def load(folder: Path, **entry: Any) -> TextGeneration:
    adapter = runtime.load(pipeline_for(folder, **entry), "cpu", threads=1).adapter
    assert isinstance(adapter, TextGeneration)
    return adapter


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.gpt2(tmp_path_factory.mktemp("gpt2"))


def rows(adapter: TextGeneration, batch_jobs: Sequence[Job]) -> list[Row]:
    return [row for found in adapter.encode(batch_jobs) for row in rows_of(found)]


def rows_of(found: list[Row] | JobError) -> list[Row]:
    assert isinstance(found, list), str(found)
    return found


def error_for(adapter: TextGeneration, text: Any, **parameters: Any) -> JobError:
    [found] = adapter.encode(jobs([text], **parameters))
    assert isinstance(found, JobError)
    return found


def generate(adapter: TextGeneration, encoded: Sequence[Row], budget: int = 10_000) -> dict[tuple[int, int], Any]:
    """What the rows come to, packed as the engine packs them, by position and part."""
    return {
        (row.job.position, row.part_index): raw
        for batch in planning.plan_micro_batches(encoded, budget, adapter.max_rows)
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True)
    }


class TestPadding:
    @pytest.mark.parametrize("asked", [{"no_repeat_ngram_size": 1}, {"repetition_penalty": 5.0}, {"num_beams": 2}])
    def test_is_no_token_that_occurred(self, tmp_path: Path, asked: dict[str, Any]) -> None:
        adapter = load(tiny_decoders.llama(tmp_path / "first"))
        alone = generate(adapter, rows(adapter, jobs(TEXTS, **GREEDY, **asked)), budget=1)
        # Padded with what the model likes to write, no row may be the poorer for it.
        [(liked, _)] = Counter(token for [ids] in alone.values() for token in ids[:10]).most_common(1)
        tokenizer = byte_level_tokenizer(pad=False, pad_token=VOCABULARY[liked])
        padded = load(tiny_decoders.llama(tmp_path / "second", tokenizer=tokenizer))

        together = generate(padded, rows(padded, jobs(TEXTS, **GREEDY, **asked)))

        assert tokenizer.pad_token_id == liked
        assert together == alone

    def test_is_no_part_of_a_stop_string(self, tmp_path: Path) -> None:
        tokenizer = byte_level_tokenizer(pad=False, pad_token="z")
        adapter = load(tiny_decoders.llama(tmp_path / "model", tokenizer=tokenizer))
        encoded = rows(adapter, jobs(["a", "x" * 25], **GREEDY, stop_strings="za"))
        [first] = generate(adapter, encoded[:1]).values()
        written_after_a = tokenizer.decode(first[0][:1])

        asked = {**GREEDY, "stop_strings": "za" + written_after_a}
        together = generate(adapter, rows(adapter, jobs(["a", "x" * 25], **asked)))

        assert together[0, 0] == first

    def test_does_not_happen_if_a_model_takes_no_position_ids(self, tmp_path: Path) -> None:
        adapter = load(tiny_decoders.bloom(tmp_path / "model"))

        planned = planning.plan_micro_batches(
            rows(adapter, jobs(["a", "b", "love", "xyz", "abc"], **GREEDY)), 10_000, 512
        )

        assert sorted(len(batch.rows) for batch in planned) == [2, 3]
        assert all(row.length == batch.width for batch in planned for row in batch.rows)


class TestKeys:
    def test_batches_share_passes_unless_their_settings_differ(self, llama: Path) -> None:
        adapter = load(llama)
        asked = [{}, {"return_full_text": False}, {"temperature": 0.5}, {"max_new_tokens": 9}, {"do_sample": False}]

        keys = [rows(adapter, jobs(["love"], **{"max_new_tokens": 10, **item}))[0].key for item in asked]

        assert keys[0] == keys[1]
        assert len(set(keys)) == 4

    def test_seeds_share_passes(self, llama: Path) -> None:
        adapter = load(llama)

        one, two, none = (
            rows(adapter, jobs(["love"], max_new_tokens=10, **seed))[0] for seed in ({"seed": 1}, {"seed": 2}, {})
        )

        assert one.key == two.key != none.key
        assert (one.width, one.max_rows) == (16, 8)
        assert (none.width, none.max_rows) == (None, None)

    def test_a_fixed_width_leaves_room_for_the_new_tokens(self, llama: Path) -> None:
        adapter = load(llama)

        [row] = rows(adapter, jobs(["x" * 100], max_new_tokens=27, seed=1))

        assert (row.length, row.width) == (100, 101)
        assert len(generate(adapter, [row])[0, 0]) == 1


class TestForward:
    def test_keeps_no_more_tokens_at_once_than_there_is_room_for(
        self, llama: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        adapter = load(llama)
        encoded = rows(adapter, jobs(TEXTS, **GREEDY, num_beams=2))
        expected = generate(adapter, encoded)
        sizes = []
        run = adapter._generator.run

        def record_size(prefill: Any, *arguments: Any, **options: Any) -> Any:
            sizes.append(tuple(prefill.tensors["input_ids"].shape))
            return run(prefill, *arguments, **options)

        monkeypatch.setattr(adapter._generator, "run", record_size)
        monkeypatch.setattr(adapter._row_limit, "max_tokens", 250)

        assert generate(adapter, encoded) == expected
        assert len(sizes) > 1
        assert all(count * (width + 10) * 2 <= 250 for count, width in sizes)

    @pytest.mark.parametrize("asked", [{"do_sample": False}, {"num_beams": 2, "do_sample": False}, {"seed": 1}])
    def test_rejects_only_the_rows_whose_scores_are_not_finite(self, tmp_path: Path, asked: dict[str, Any]) -> None:
        adapter = load(tiny_decoders.llama(tmp_path / "model"))
        encoded = rows(adapter, jobs(["aa", "~~", "bb"], max_new_tokens=4, **asked))
        expected = generate(adapter, encoded)
        with torch.no_grad():
            adapter._pipeline.model.get_input_embeddings().weight[VOCABULARY.index("~")] = torch.nan

        raw = generate(adapter, encoded)

        assert raw[1, 0] is None
        assert (raw[0, 0], raw[2, 0]) == (expected[0, 0], expected[2, 0])
        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode([encoded[1]], [raw[1, 0]])
        assert caught.value.code == "invalid_output"


class TestSampling:
    def test_draws_as_often_as_the_model_says(self, llama: Path) -> None:
        adapter = load(llama, limits={"max_return_sequences": 64})
        asked = {"max_new_tokens": 1, "temperature": 1.5, "top_k": 3, "num_return_sequences": 64}
        counts: Counter[int] = Counter()
        for seed in range(8):
            raw = generate(adapter, rows(adapter, jobs(["love"], **asked, seed=seed)))
            counts.update(ids[0] for [ids] in raw.values())
        [row] = rows(adapter, jobs(["love"], **GREEDY))

        with torch.inference_mode():
            logits = adapter._pipeline.model(torch.tensor([row.features["input_ids"]])).logits[0, -1]
        best = logits.topk(3)
        shares = (best.values / 1.5).softmax(-1).tolist()

        assert set(counts) <= set(best.indices.tolist())
        for token, share in zip(best.indices.tolist(), shares, strict=True):
            assert counts[token] / 512 == pytest.approx(share, abs=4 * (share * (1 - share) / 512) ** 0.5)

    def test_of_beams_is_the_pipeline_s_own_with_that_seed(self, llama: Path) -> None:
        adapter = load(llama)
        asked = {"max_new_tokens": 8, "num_beams": 2, "num_return_sequences": 2, "temperature": 2.0}
        batch_jobs = jobs(TEXTS, **asked, seed=3)
        encoded = rows(adapter, batch_jobs)
        reference = transformers_pipeline("text-generation", model=str(llama), device="cpu", dtype="float32")

        planned = planning.plan_micro_batches(encoded, 10_000, adapter.max_rows)
        raw = generate(adapter, encoded)

        assert [len(batch.rows) for batch in planned] == [1] * len(TEXTS)
        for row in encoded:
            with seed_generators(3, row.features["input_ids"], torch.device("cpu")):
                expected = reference(row.job.input["text"], **asked)
            assert adapter.decode([row], [raw[row.job.position, 0]]) == expected

    def test_happens_by_default_and_differs_without_a_seed(self, llama: Path) -> None:
        adapter = load(llama)
        encoded = rows(adapter, jobs(["love"] * 4, max_new_tokens=20, temperature=2.0))

        assert len({str(raw) for raw in generate(adapter, encoded).values()}) == 4


class TestRefusals:
    def test_says_what_does_not_fit_by_the_numbers(self, llama: Path) -> None:
        error = error_for(load(llama), "x" * 30, max_new_tokens=99)

        assert error.code == "input_too_long"
        assert str(error).startswith("30 tokens and 99 new ones; this pipeline takes 128;")

    def test_counts_the_tokens_that_are_written_by_default(self, llama: Path) -> None:
        assert "256 new ones" in str(error_for(load(llama), "love"))

    def test_heeds_the_catalogue_s_limit(self, llama: Path) -> None:
        assert "this pipeline takes 20;" in str(error_for(load(llama, max_length=20), "x" * 11, **GREEDY))

    def test_does_not_cut_where_the_catalogue_says_error(self, llama: Path) -> None:
        asked = {**GREEDY, "handle_long_generation": "hole"}

        assert error_for(load(llama, truncation="error"), "x" * 200, **asked).code == "input_too_long"

    def test_does_not_cut_to_nothing(self, llama: Path) -> None:
        asked = {"max_new_tokens": 128, "handle_long_generation": "hole"}

        assert error_for(load(llama), "x", **asked).code == "input_too_long"

    def test_refuses_a_prompt_past_the_model_s_own_length(self, tmp_path: Path) -> None:
        folder = tiny_decoders.llama(tmp_path / "model", generation={"max_length": 30})

        assert "30 tokens; this model generates up to 30 in all" in str(error_for(load(folder), "x" * 30))

    def test_refuses_messages_without_a_template(self, tmp_path: Path) -> None:
        folder = tiny_decoders.llama(tmp_path / "model", tokenizer=byte_level_tokenizer(chat=False))

        error = error_for(load(folder), [{"role": "user", "content": "hi"}], **GREEDY)

        assert error.code == "no_chat_template"

    def test_refuses_tokens_that_the_model_lacks(self, tmp_path: Path) -> None:
        tokenizer = byte_level_tokenizer()
        tokenizer.add_tokens(["brandnew"])
        adapter = load(tiny_decoders.llama(tmp_path / "model", tokenizer=tokenizer))

        known, unknown = adapter.encode(jobs(["brand new", "brandnew"], **GREEDY))

        assert isinstance(known, list)
        assert isinstance(unknown, JobError)
        assert unknown.code == "unknown_token"

    @pytest.mark.parametrize(
        ("generation", "asked", "says"),
        [
            ({"do_sample": False}, {"num_return_sequences": 2, "max_new_tokens": 3}, "num_return_sequences is 2"),
            ({"num_beams": 2}, {"num_return_sequences": 3, "max_new_tokens": 3}, "num_beams 2"),
            ({"max_new_tokens": 5}, {"min_new_tokens": 6}, "min_new_tokens is 6"),
        ],
    )
    def test_refuses_what_the_model_s_own_config_rules_out(
        self, tmp_path: Path, generation: dict[str, Any], asked: dict[str, Any], says: str
    ) -> None:
        adapter = load(tiny_decoders.llama(tmp_path / "model", generation=generation))

        error = error_for(adapter, "love", **asked)

        assert error.code == "invalid_parameters"
        assert says in str(error)

    def test_a_model_that_writes_nothing_is_not_for_this_task(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError):
            load(tiny_models.bert(tmp_path / "model"))


class TestTime:
    def test_runs_out_between_two_tokens(self, gpt2: Path) -> None:
        adapter = load(gpt2)

        raw = generate(adapter, rows(adapter, jobs(["love"], do_sample=False, max_new_tokens=100, max_time=1e-9)))

        assert [len(ids) for ids in raw[0, 0]] == [1]
