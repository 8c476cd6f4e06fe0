"""The loop: rows leave when they have ended, and nobody who stays notices."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import models_made_decoders
from tests.golden import seq2seq_models
from tests.passes_made import TEXTS, encode_texts, forward_all, load_adapter, load_decoder, record_batch_sizes
from worker.adapters.generation import continuous_batching, sampling
from worker.adapters.interface import Interrupted
from worker.adapters.rows import Row
from worker.engine import planning

ASKED = st.fixed_dictionaries(
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
def by_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance by the prompt alone, though no seed was given: shapes are free, and yet a text can be had again."""
    noise = sampling.noise
    monkeypatch.setattr(sampling, "noise", lambda seed, ids, sequence_index, count: noise(1, ids, sequence_index, count))


class TestLeaving:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "mistral", "gpt_neox", "opt"])
    def test_changes_nothing_for_the_others(self, tmp_path: Path, architecture: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, TEXTS)
        alone = forward_all(adapter, rows, token_budget=1)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == alone
        lengths = [len(ids) for [ids] in alone.values()]
        assert len(set(lengths)) > 3, "they end at different times"
        assert sizes[0] == len(TEXTS) > sizes[-1]
        assert sum(sizes) <= sum(lengths) * continuous_batching.EVICT_WHEN_ONE_IN / (
            continuous_batching.EVICT_WHEN_ONE_IN - 1
        )

    def test_is_no_matter_of_padding(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", "bloom")
        rows = encode_texts(adapter, [chr(code) for code in range(65, 85)])

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert sizes[-1] < sizes[0] == 20
        assert together == forward_all(adapter, rows, token_budget=1)

    @pytest.mark.usefixtures("by_prompt")
    @pytest.mark.parametrize("asked", [{}, {"num_return_sequences": 3, "temperature": 2.0, "top_k": 9}], ids=str)
    def test_leaves_everyone_their_own_chances(self, llama: Any, asked: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, do_sample=True, **asked)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            together = forward_all(llama, rows)

        assert sizes[-1] < sizes[0] == len(rows)
        assert together == forward_all(llama, rows, token_budget=1)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        texts=st.lists(st.text("abcxyz love", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=12),
        asked=ASKED,
    )
    def test_changes_nothing_whatever_is_asked_for(self, llama: Any, texts: list[str], asked: dict[str, Any]) -> None:
        rows = encode_texts(llama, texts, **asked)
        least, most = asked.get("min_new_tokens", 0), asked.get("max_new_tokens", 40)

        together = forward_all(llama, rows)

        assert together == forward_all(llama, rows, token_budget=1)
        assert all(len(ids) <= most for [ids] in together.values())
        assert "stop_sequence" in asked or all(len(ids) >= least for [ids] in together.values())

    def test_is_what_transformers_writes(self, llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = encode_texts(llama, TEXTS, stop_sequence=["e", "W"], min_new_tokens=2)
        mine = forward_all(llama, rows)

        monkeypatch.setattr(continuous_batching, "custom_generate_for", lambda _config: None)

        assert forward_all(llama, rows) == mine

    def test_does_not_happen_without_an_end(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", eos_token_id=None, max_new_tokens=9)
        rows = encode_texts(adapter, TEXTS)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert sizes == [len(TEXTS)] * 9
        assert {len(ids) for [ids] in together.values()} == {9}

    def test_does_not_happen_where_a_pass_has_a_fixed_shape(self, llama: Any) -> None:
        rows = encode_texts(llama, TEXTS[:3], do_sample=True, seed=1)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            forward_all(llama, rows)

        assert set(sizes) == {8}

    @pytest.mark.parametrize(
        "asked", [{"use_cache": False}, {"guidance_scale": 1.5}, {"cache_implementation": "static"}]
    )
    def test_is_left_to_transformers_where_more_is_remembered_of_rows(
        self, tmp_path: Path, asked: dict[str, Any]
    ) -> None:
        adapter = load_decoder(tmp_path / "model", max_new_tokens=12, **asked)
        rows = encode_texts(adapter, ["abc", "abd", "abe", "abf"])

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        assert set(sizes) == {4}

    def test_does_not_mix_up_whose_scores_were_no_numbers(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model")
        texts = [*TEXTS[:6], "~~", *TEXTS[6:]]
        rows = encode_texts(adapter, texts)
        expected = forward_all(adapter, rows)
        with torch.no_grad():
            adapter._pipeline.model.get_input_embeddings().weight[models_made_decoders.VOCABULARY.index("~")] = (
                torch.nan
            )

        raw = forward_all(adapter, rows)

        wrote = [place for place, [ids] in expected.items() if models_made_decoders.VOCABULARY.index("~") in ids]
        assert {place for place, ids in raw.items() if ids is None} == {(6, 0), *wrote}
        assert all(ids == expected[place] for place, ids in raw.items() if ids is not None)


class TestEntering:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gpt_neox", "opt"])
    def test_changes_nothing_for_anybody(self, tmp_path: Path, architecture: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, [*TEXTS, *(f"{text[:9]}!" for text in TEXTS)])

        with record_batch_sizes(adapter._pipeline.model) as sizes, places(adapter, rows, 4):
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        assert max(sizes) == 4
        tokens = sum(len(ids) for [ids] in together.values())
        assert len(sizes) < tokens / 2

    def test_is_how_others_of_the_window_come_in(self, llama: Any) -> None:
        rows = sorted(encode_texts(llama, TEXTS), key=lambda row: row.length, reverse=True)
        first, waiting, asked = rows[:4], rows[4:], []

        def more(count: int) -> list[Row]:
            asked.append(count)
            drawn = waiting[:count]
            del waiting[:count]
            return drawn

        found = [row for ended in llama.generate(first, more, 4) for row in ended]

        expected = forward_all(llama, rows, token_budget=1)
        assert {(row.job.position, row.part_index): raw for row, raw in found} == expected
        assert len(found) == len(rows)
        assert max(asked) <= 4
        order = [row.job.position for row, _ in found]
        last = max(order.index(row.job.position) for row in first)
        assert any(order.index(row.job.position) < last for row in rows[4:]), "short ones overtake long ones"

    @pytest.mark.usefixtures("by_prompt")
    @pytest.mark.parametrize("asked", [{}, {"num_return_sequences": 3, "temperature": 2.0, "top_k": 9}], ids=str)
    def test_leaves_everyone_their_own_chances(self, llama: Any, asked: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, do_sample=True, **asked)

        with places(llama, rows, 5):
            together = forward_all(llama, rows)

        assert together == forward_all(llama, rows, token_budget=1)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        texts=st.lists(st.text("abcxyz love", min_size=1, max_size=30).filter(str.strip), min_size=4, max_size=16),
        asked=ASKED,
        room=st.integers(1, 6),
    )
    def test_changes_nothing_whatever_is_asked_for(
        self, llama: Any, texts: list[str], asked: dict[str, Any], room: int
    ) -> None:
        rows = encode_texts(llama, texts, **asked)

        with places(llama, rows, room):
            together = forward_all(llama, rows)

        assert together == forward_all(llama, rows, token_budget=1)

    def test_never_makes_a_cache_longer_than_its_longest_row(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", min_new_tokens=6, max_new_tokens=24)
        rows = encode_texts(adapter, TEXTS * 3)
        widths = []
        model = adapter._pipeline.model
        handle = model.register_forward_pre_hook(
            lambda _model, _given, told: widths.append(told["past_key_values"].get_seq_length()), with_kwargs=True
        )
        try:
            with places(adapter, rows, 4):
                forward_all(adapter, rows)
        finally:
            handle.remove()

        assert max(widths) <= max(row.length for row in rows) + 24

    @pytest.mark.parametrize(("architecture", "why"), [("mistral", "a window slides"), ("bloom", "lengths are equal")])
    def test_does_not_happen_where_caches_can_t_be_put_together(
        self, tmp_path: Path, architecture: str, why: str
    ) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        rows = encode_texts(adapter, [chr(code) for code in range(65, 85)])

        with record_batch_sizes(adapter._pipeline.model) as sizes, places(adapter, rows, 5):
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        again = [place for place, (before, now) in enumerate(pairwise(sizes), 1) if now > before]
        assert [sizes[place] for place in again] == [5, 5, 5], why
        assert sizes[0] == 5

    def test_does_not_happen_where_a_pass_has_a_fixed_shape(self, llama: Any) -> None:
        rows = encode_texts(llama, ["a", "b", "c"] * 8, do_sample=True, seed=1)

        with record_batch_sizes(llama._pipeline.model) as sizes:
            drawn = list(llama.generate(rows[:8], lambda _count: pytest.fail("nobody may enter"), 512))

        assert set(sizes) == {8}
        assert [row for row, _ in drawn[0]] == rows[:8]

    def test_keeps_what_had_ended_before_a_pass_failed(self, llama: Any) -> None:
        rows = encode_texts(llama, TEXTS)
        expected = forward_all(llama, rows, token_budget=1)
        calls = iter(range(1_000))

        def fails(*_given: Any) -> None:
            if next(calls) == 30:
                raise RuntimeError("half-way")

        handle = llama._pipeline.model.register_forward_pre_hook(fails)
        found: list[tuple[Row, Any]] = []
        with places(llama, rows, 3), pytest.raises(RuntimeError, match="half-way"):
            found.extend(row for ended in llama.generate(rows, lambda _count: (), 512) for row in ended)
        handle.remove()

        assert 0 < len(found) < len(rows)
        assert all(raw == expected[row.job.position, row.part_index] for row, raw in found)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", ["bart", "t5", "marian"])
def test_leaving_changes_nothing_for_an_encoder_decoder_s_others(tmp_path: Path, name: str) -> None:
    getattr(seq2seq_models, name)(tmp_path / "model")
    adapter = load_adapter(tmp_path / "model", "summarization")
    texts = ["a house", "the", "the river is in the city", "x", "Der Fluss " * 9, "what? " * 5, "the house"] * 2
    # Vowels are frequent: each ends somewhere.
    rows = encode_texts(adapter, texts, "summarization", num_beams=1, max_new_tokens=25, stop_strings=list("aei"))

    with record_batch_sizes(adapter._generator._model) as sizes:
        together = [adapter.decode([rows[place]], [raw]) for (place, _), raw in forward_all(adapter, rows).items()]

    alone = {
        place: adapter.decode([rows[place]], [raw])
        for (place, _), raw in forward_all(adapter, rows, token_budget=1).items()
    }
    order = [
        row.job.position for batch in planning.plan_micro_batches(rows, 10_000, adapter.max_rows) for row in batch.rows
    ]
    assert together == [alone[place] for place in order]
    assert sizes[-1] < sizes[0] == len(texts)


class TestInterrupting:
    @pytest.mark.parametrize(
        "asked", [{}, {"num_beams": 2}, {"do_sample": True}, {"do_sample": True, "seed": 1}], ids=str
    )
    def test_gives_a_pass_up_between_two_tokens(self, llama: Any, asked: dict[str, Any]) -> None:
        rows = encode_texts(llama, TEXTS, min_new_tokens=20, **asked)
        llama.should_interrupt = after(5)
        try:
            with record_batch_sizes(llama._pipeline.model) as sizes, pytest.raises(Interrupted):
                forward_all(llama, rows)
        finally:
            llama.should_interrupt = lambda: False

        assert len(sizes) == 5
        assert len(forward_all(llama, rows)) == len(TEXTS)

    @pytest.mark.parametrize("beams", [1, 4])
    def test_is_heard_by_an_encoder_decoder(self, tmp_path: Path, beams: int) -> None:
        seq2seq_models.bart(tmp_path / "model")
        adapter = load_adapter(tmp_path / "model", "summarization")
        rows = encode_texts(adapter, TEXTS, "summarization", num_beams=beams, min_new_tokens=20, max_new_tokens=25)
        adapter.should_interrupt = after(5)

        with record_batch_sizes(adapter._generator._model) as sizes, pytest.raises(Interrupted):
            forward_all(adapter, rows)

        assert len(sizes) == 5


def after(tokens: int) -> Callable[[], bool]:
    """True when asked for the n-th time."""
    asked = iter(range(1, 1_000))
    return lambda: next(asked) >= tokens


@contextmanager
def places(adapter: Any, rows: Sequence[Row], count: int) -> Iterator[None]:
    """Room for so many rows at once, and no more."""
    settings = adapter._generator.settings_for(rows[0].job.lease.parameters)
    most, _ = settings.new_token_limits(rows[0].length)
    before, adapter._max_cached_tokens = adapter._max_cached_tokens, count * (max(row.length for row in rows) + most)
    try:
        yield
    finally:
        adapter._max_cached_tokens = before
