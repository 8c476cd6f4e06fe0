"""Continuous batching: rows leave when they end and others join, without a change to any output."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import tiny_decoders
from tests.factories.forward_passes import (
    TEXTS,
    encode_texts,
    forward_all,
    load_adapter,
    load_decoder,
    record_batch_sizes,
)
from tests.golden import seq2seq_models
from worker.adapters.generation import continuous_batching, end_check, sampling
from worker.adapters.generation.cache_memory import RowLimit
from worker.adapters.interface import Interrupted
from worker.adapters.rows import Row
from worker.passes import planning

PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "max_new_tokens": st.integers(8, 30),
        "min_new_tokens": st.integers(0, 8),
        "stop_sequence": st.lists(st.sampled_from(["e", "a", "lo", "W", "?"]), min_size=1, max_size=3),
        "repetition_penalty": st.sampled_from([0.7, 1.3]),
        "no_repeat_ngram_size": st.integers(1, 3),
    },
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_decoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def noise_by_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make unseeded sampling depend on the prompt alone: outputs can be compared, yet shapes stay free."""
    noise = sampling.noise
    monkeypatch.setattr(
        sampling, "noise", lambda seed, ids, sequence_index, count: noise(1, ids, sequence_index, count)
    )


class TestRowRemoval:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "mistral", "gpt_neox", "opt"])
    def test_does_not_change_the_output_of_other_rows(self, tmp_path: Path, architecture: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, TEXTS)
        alone = forward_all(adapter, rows, token_budget=1)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == alone
        lengths = [len(ids) for [ids] in alone.values()]
        assert len(set(lengths)) > 3, "they end at different times"
        assert sizes[0] == len(TEXTS) > sizes[-1]
        # Where looks are rare, rows run a few tokens past their ends.
        interval = end_check.CHECK_INTERVALS.get(adapter._pipeline.model.device.type, 0)
        overshoot = (interval + 1) * len(TEXTS) if interval else 0
        assert sum(sizes) <= (sum(lengths) + overshoot) * continuous_batching.EVICT_WHEN_ONE_IN / (
            continuous_batching.EVICT_WHEN_ONE_IN - 1
        )

    def test_works_for_models_whose_rows_cannot_be_padded(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", "bloom")
        rows = encode_texts(adapter, [chr(code) for code in range(65, 85)])

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert sizes[-1] < sizes[0] == 20
        assert together == forward_all(adapter, rows, token_budget=1)

    @pytest.mark.usefixtures("noise_by_prompt")
    @pytest.mark.parametrize("parameters", [{}, {"num_return_sequences": 3, "temperature": 2.0, "top_k": 9}], ids=str)
    def test_keeps_the_random_numbers_of_each_row(self, llama: Any, parameters: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, do_sample=True, **parameters)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            together = forward_all(llama, rows)

        assert sizes[-1] < sizes[0] == len(rows)
        assert together == forward_all(llama, rows, token_budget=1)

    def test_gives_the_output_of_transformers(self, llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = encode_texts(llama, TEXTS, stop_sequence=["e", "W"], min_new_tokens=2)
        expected = forward_all(llama, rows)

        monkeypatch.setattr(continuous_batching, "custom_generate_for", lambda _config: None)

        assert forward_all(llama, rows) == expected

    def test_needs_an_end_token(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", eos_token_id=None, max_new_tokens=9)
        rows = encode_texts(adapter, TEXTS)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert sizes == [len(TEXTS)] * 9
        assert {len(ids) for [ids] in together.values()} == {9}

    def test_does_not_happen_in_passes_of_a_fixed_shape(self, llama: Any) -> None:
        rows = encode_texts(llama, TEXTS[:3], do_sample=True, seed=1)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            forward_all(llama, rows)

        assert set(sizes) == {8}

    @pytest.mark.parametrize(
        "parameters", [{"use_cache": False}, {"guidance_scale": 1.5}, {"cache_implementation": "static"}]
    )
    def test_is_left_to_transformers_when_rows_have_more_state(
        self, tmp_path: Path, parameters: dict[str, Any]
    ) -> None:
        adapter = load_decoder(tmp_path / "model", max_new_tokens=12, **parameters)
        rows = encode_texts(adapter, ["abc", "abd", "abe", "abf"])

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        assert set(sizes) == {4}

    def test_keeps_track_of_the_rows_with_nan_scores(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model")
        texts = [*TEXTS[:6], "~~", *TEXTS[6:]]
        rows = encode_texts(adapter, texts)
        expected = forward_all(adapter, rows)
        with torch.no_grad():
            adapter._pipeline.model.get_input_embeddings().weight[tiny_decoders.VOCABULARY.index("~")] = torch.nan

        raw = forward_all(adapter, rows)

        affected = [key for key, [ids] in expected.items() if tiny_decoders.VOCABULARY.index("~") in ids]
        assert {key for key, ids in raw.items() if ids is None} == {(6, 0), *affected}
        assert all(ids == expected[key] for key, ids in raw.items() if ids is not None)


class TestJoining:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gpt_neox", "opt"])
    def test_does_not_change_any_output(self, tmp_path: Path, architecture: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, [*TEXTS, *(f"{text[:9]}!" for text in TEXTS)])

        with record_batch_sizes(adapter._pipeline.model) as sizes, limit_rows(adapter, rows, 4):
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        assert sizes[0] == 4
        tokens = sum(len(ids) for [ids] in together.values())
        assert len(sizes) < tokens / 2

    def test_takes_rows_from_fetch_more(self, llama: Any) -> None:
        rows = sorted(encode_texts(llama, TEXTS), key=lambda row: row.length, reverse=True)
        first, waiting, counts = rows[:4], rows[4:], []

        def fetch_more(count: int) -> list[Row]:
            counts.append(count)
            fetched = waiting[:count]
            del waiting[:count]
            return fetched

        outputs = [row for finished in llama.generate(first, fetch_more, 4) for row in finished]

        expected = forward_all(llama, rows, token_budget=1)
        assert {(row.job.position, row.part_index): raw for row, raw in outputs} == expected
        assert len(outputs) == len(rows)
        assert max(counts) <= 4
        order = [row.job.position for row, _ in outputs]
        last = max(order.index(row.job.position) for row in first)
        assert any(order.index(row.job.position) < last for row in rows[4:]), "short ones overtake long ones"

    @pytest.mark.parametrize("interval", [1, 4])
    def test_takes_rows_that_are_longer_than_the_running_ones(
        self, llama: Any, monkeypatch: pytest.MonkeyPatch, interval: int
    ) -> None:
        rows = sorted(encode_texts(llama, TEXTS), key=lambda row: row.length)
        expected = forward_all(llama, rows, token_budget=1)
        monkeypatch.setitem(end_check.CHECK_INTERVALS, "cpu", interval)
        waiting = rows[3:]

        def fetch_more(count: int) -> list[Row]:
            fetched, waiting[:count] = waiting[:count], []
            return fetched

        with record_batch_sizes(llama._pipeline.model) as sizes, limit_rows(llama, rows, 4):
            outputs = [row for finished in llama.generate(rows[:3], fetch_more, 512) for row in finished]

        assert {(row.job.position, row.part_index): raw for row, raw in outputs} == expected
        assert sizes[-1] <= 4 < max(sizes), "short rows leave room for more"

    @pytest.mark.usefixtures("noise_by_prompt")
    @pytest.mark.parametrize("parameters", [{}, {"num_return_sequences": 3, "temperature": 2.0, "top_k": 9}], ids=str)
    def test_keeps_the_random_numbers_of_each_row(self, llama: Any, parameters: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, do_sample=True, **parameters)

        with limit_rows(llama, rows, 5):
            together = forward_all(llama, rows)

        assert together == forward_all(llama, rows, token_budget=1)

    @settings(
        max_examples=10,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        texts=st.lists(st.text("abcxyz love", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=16),
        parameters=PARAMETERS,
        max_rows=st.integers(1, 16),
    )
    def test_does_not_change_outputs_for_any_parameters(
        self, llama: Any, texts: list[str], parameters: dict[str, Any], max_rows: int
    ) -> None:
        rows = encode_texts(llama, texts, **parameters)
        min_tokens, max_tokens = parameters.get("min_new_tokens", 0), parameters.get("max_new_tokens", 40)

        with limit_rows(llama, rows, max_rows):
            together = forward_all(llama, rows)

        assert together == forward_all(llama, rows, token_budget=1)
        assert all(len(ids) <= max_tokens for [ids] in together.values())
        assert "stop_sequence" in parameters or all(len(ids) >= min_tokens for [ids] in together.values())

    def test_never_makes_a_cache_longer_than_its_longest_row(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", min_new_tokens=6, max_new_tokens=24)
        rows = encode_texts(adapter, TEXTS * 3)
        widths = []
        model = adapter._pipeline.model
        handle = model.register_forward_pre_hook(
            lambda _model, _args, kwargs: widths.append(kwargs["past_key_values"].get_seq_length()), with_kwargs=True
        )
        try:
            with limit_rows(adapter, rows, 4):
                forward_all(adapter, rows)
        finally:
            handle.remove()

        assert max(widths) <= max(row.length for row in rows) + 24

    @pytest.mark.parametrize(("architecture", "why"), [("mistral", "sliding window"), ("bloom", "cannot pad")])
    def test_does_not_happen_when_caches_cannot_be_merged(self, tmp_path: Path, architecture: str, why: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, [chr(code) for code in range(65, 85)])

        with record_batch_sizes(adapter._pipeline.model) as sizes, limit_rows(adapter, rows, 5):
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        growths = [size for previous, size in pairwise(sizes) if size > previous]
        assert growths == [5, 5, 5], why
        assert sizes[0] == 5

    def test_does_not_happen_in_passes_of_a_fixed_shape(self, llama: Any) -> None:
        rows = encode_texts(llama, ["a", "b", "c"] * 8, do_sample=True, seed=1)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            outputs = list(llama.generate(rows[:8], lambda _count: pytest.fail("no row may join"), 512))

        assert set(sizes) == {8}
        assert [row for row, _ in outputs[0]] == rows[:8]

    def test_yields_outputs_that_ended_before_a_failure(self, llama: Any) -> None:
        rows = encode_texts(llama, TEXTS)
        expected = forward_all(llama, rows, token_budget=1)
        calls = iter(range(1_000))

        def fail_at_30th_pass(*_args: Any) -> None:
            if next(calls) == 30:
                raise RuntimeError("half-way")

        handle = llama._pipeline.model.register_forward_pre_hook(fail_at_30th_pass)
        outputs: list[tuple[Row, Any]] = []
        with limit_rows(llama, rows, 3), pytest.raises(RuntimeError, match="half-way"):
            outputs.extend(row for finished in llama.generate(rows, lambda _count: (), 512) for row in finished)
        handle.remove()

        assert 0 < len(outputs) < len(rows)
        assert all(raw == expected[row.job.position, row.part_index] for row, raw in outputs)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", ["bart", "t5", "marian"])
def test_row_removal_does_not_change_the_output_of_other_rows_of_an_encoder_decoder(tmp_path: Path, name: str) -> None:
    getattr(seq2seq_models, name)(tmp_path / "model")
    adapter = load_adapter(tmp_path / "model", "summarization")
    texts = ["a house", "the", "the river is in the city", "x", "Der Fluss " * 9, "what? " * 5, "the house"] * 2
    # Vowels are frequent, so that every text ends.
    rows = encode_texts(adapter, texts, "summarization", num_beams=1, max_new_tokens=25, stop_strings=list("aei"))

    with record_batch_sizes(adapter._generator._model) as sizes:
        together = [
            adapter.decode([rows[position]], [raw]) for (position, _), raw in forward_all(adapter, rows).items()
        ]

    alone = {
        position: adapter.decode([rows[position]], [raw])
        for (position, _), raw in forward_all(adapter, rows, token_budget=1).items()
    }
    order = [
        row.job.position for batch in planning.plan_micro_batches(rows, 10_000, adapter.max_rows) for row in batch.rows
    ]
    assert together == [alone[position] for position in order]
    assert sizes[-1] < sizes[0] == len(texts)


class TestInterrupting:
    @pytest.mark.parametrize(
        "parameters", [{}, {"num_beams": 2}, {"do_sample": True}, {"do_sample": True, "seed": 1}], ids=str
    )
    def test_aborts_a_pass_between_two_tokens(self, llama: Any, parameters: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, min_new_tokens=20, **parameters)
        llama.should_interrupt = true_at_call(5)
        try:
            with record_batch_sizes(llama._pipeline.model) as sizes, pytest.raises(Interrupted):
                forward_all(llama, rows)
        finally:
            llama.should_interrupt = lambda: False

        assert len(sizes) == 5
        assert len(forward_all(llama, rows)) == len(TEXTS)

    @pytest.mark.parametrize("beams", [1, 4])
    def test_aborts_a_pass_of_an_encoder_decoder(self, tmp_path: Path, beams: int) -> None:
        seq2seq_models.bart(tmp_path / "model")
        adapter = load_adapter(tmp_path / "model", "summarization")
        rows = encode_texts(adapter, TEXTS, "summarization", num_beams=beams, min_new_tokens=20, max_new_tokens=25)
        adapter.should_interrupt = true_at_call(5)

        with record_batch_sizes(adapter._generator._model) as sizes, pytest.raises(Interrupted):
            forward_all(adapter, rows)

        assert len(sizes) == 5


def true_at_call(number: int) -> Callable[[], bool]:
    """A function that returns True from this call on."""
    calls = iter(range(1, 1_000))
    return lambda: next(calls) >= number


@contextmanager
def limit_rows(adapter: Any, rows: Sequence[Row], count: int) -> Iterator[None]:
    """Limit the cache, so that no more than `count` rows run at once."""
    settings = adapter._settings.resolve(rows[0].job.lease.parameters)
    max_new_tokens, _ = settings.new_token_limits(rows[0].length)
    before, max_tokens = adapter._row_limit, count * (max(row.length for row in rows) + max_new_tokens)
    adapter._row_limit = RowLimit(None, max_tokens, lambda: 0)
    try:
        yield
    finally:
        adapter._row_limit = before
