"""The number of rows that run at once: measured caches, free memory, and passes of a fixed shape."""

from pathlib import Path

import pytest
import torch

from tests.factories import tiny_decoders
from tests.factories.forward_passes import TEXTS, encode_texts, forward_all, load_adapter, load_decoder
from tests.golden import seq2seq_models
from worker.adapters.generation import cache_memory
from worker.adapters.generation.cache_memory import CacheLayer, CacheLayout, RowLimit, RowSize

# As GPT-2 in 16 bits: 12 layers of 768, keys and values.
GPT2 = CacheLayout([CacheLayer(2 * 768 * 2)] * 12, (), 0, 50_257)
LLAMA_7B = CacheLayout([CacheLayer(2 * 4_096 * 2)] * 32, (), 0, 32_000)


class TestMeasuring:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2", "gpt_neox", "opt", "bloom"])
    def test_finds_what_the_config_says(self, tmp_path: Path, architecture: str) -> None:
        model = load_decoder(tmp_path / "model", architecture)._pipeline.model
        config = model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_size = config.hidden_size // config.num_attention_heads

        layout = cache_memory.measure_cache_layout(model)

        assert layout is not None
        assert layout.cache_bytes(10) == config.num_hidden_layers * heads * head_size * 2 * 4 * 10
        assert layout.score_bytes(samples=False) == 12 * config.vocab_size
        assert layout.score_bytes(samples=True) > layout.score_bytes(samples=False)

    def test_counts_half_precision_as_half(self, tmp_path: Path) -> None:
        model = load_decoder(tmp_path / "model")._pipeline.model
        whole = cache_memory.measure_cache_layout(model)

        half = cache_memory.measure_cache_layout(model.bfloat16())

        assert whole is not None
        assert half is not None
        assert 2 * half.cache_bytes(7) == whole.cache_bytes(7)

    def test_counts_no_more_than_a_sliding_window(self, tmp_path: Path) -> None:
        model = load_adapter(tiny_decoders.mistral(tmp_path / "model", sliding_window=8))._pipeline.model

        layout = cache_memory.measure_cache_layout(model)

        assert layout is not None
        assert layout.cache_bytes(100) == layout.cache_bytes(8) == 8 * layout.cache_bytes(1)

    @pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
    @pytest.mark.parametrize("name", ["bart", "t5", "marian"])
    def test_tells_an_encoder_from_its_decoder(self, tmp_path: Path, name: str) -> None:
        getattr(seq2seq_models, name)(tmp_path / "model")
        model = load_adapter(tmp_path / "model", "summarization")._generator._model
        generation_config = model.generation_config

        layout = cache_memory.measure_cache_layout(model)

        assert layout is not None
        assert layout.cache_bytes(0, 5) == layout.cache_bytes(5, 0) > 0
        assert layout.cache_bytes(3, 4) == layout.cache_bytes(7, 0)
        assert model.generation_config is generation_config

    def test_leaves_a_model_without_such_caches_to_tokens(self, tmp_path: Path) -> None:
        model = load_adapter(tiny_decoders.xlnet(tmp_path / "model"))._pipeline.model

        assert cache_memory.measure_cache_layout(model) is None


class TestRowsByMemory:
    def test_fill_four_fifths_of_what_is_free(self) -> None:
        count_fitting = RowLimit(GPT2, 0, lambda: 40 * 2**30).begin_run(samples=False)

        rows = count_fitting(RowSize(512))

        row_bytes = GPT2.cache_bytes(512) + GPT2.score_bytes(samples=False)
        assert rows * row_bytes <= 0.8 * 40 * 2**30 < (rows + 1) * row_bytes
        assert count_fitting(RowSize(512, sequences=4)) == rows // 4

    def test_are_fewer_when_tokens_are_drawn(self) -> None:
        limit = RowLimit(GPT2, 0, lambda: 2**30)

        assert limit.begin_run(samples=True)(RowSize(64)) < limit.begin_run(samples=False)(RowSize(64))

    def test_are_at_least_one(self) -> None:
        assert RowLimit(LLAMA_7B, 0, lambda: 0).begin_run(samples=True)(RowSize(4_096)) == 1

    def test_follow_the_memory_from_run_to_run(self) -> None:
        free = [2**30, 2**33]
        limit = RowLimit(GPT2, 0, lambda: free.pop())

        assert limit.begin_run(samples=False)(RowSize(99)) > limit.begin_run(samples=False)(RowSize(99))

    def test_are_counted_in_tokens_where_memory_is_unknown(self) -> None:
        count_fitting = RowLimit(None, 1_000, lambda: pytest.fail("not asked")).begin_run(samples=True)

        assert count_fitting(RowSize(100)) == 10
        assert count_fitting(RowSize(100, 999, sequences=3)) == 3
        assert count_fitting(RowSize(9_999)) == 1

    def test_do_not_change_a_text(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model")
        rows = encode_texts(adapter, TEXTS)
        expected = forward_all(adapter, rows, token_budget=1)
        layout = cache_memory.measure_cache_layout(adapter._pipeline.model)
        assert layout is not None
        free = 5 * (layout.cache_bytes(65) + layout.score_bytes(samples=False))

        adapter._row_limit = RowLimit(layout, 0, lambda: free)

        assert forward_all(adapter, rows) == expected


class TestAvailableBytes:
    @pytest.mark.parametrize(
        ("free", "share", "expected"),
        [(70, 1.0, 72), (70, 0.25, 12), (3, 0.25, 5), (70, 0.05, 0)],
        ids=["alone", "its share", "a neighbour took it", "more than its share"],
    )
    def test_are_free_and_within_the_share_of_the_process(
        self, monkeypatch: pytest.MonkeyPatch, free: int, share: float, expected: int
    ) -> None:
        readings = {
            "mem_get_info": (free, 80),
            "memory_allocated": 8,
            "memory_reserved": 10,
            "get_per_process_memory_fraction": share,
        }
        for name, value in readings.items():
            monkeypatch.setattr(torch.cuda, name, lambda _device, value=value: value)

        assert cache_memory.available_bytes(torch.device("cuda", 0)) == expected
        assert cache_memory.total_share_bytes(torch.device("cuda", 0)) == int(share * 80)


class TestFixedRows:
    def test_are_eight_without_a_gpu(self) -> None:
        limit = RowLimit(None, 16_384, lambda: pytest.fail("not asked"))

        assert {limit.fixed_rows(RowSize(tokens), samples=True) for tokens in (1, 100, 100_000)} == {8}

    @pytest.mark.parametrize(
        ("layout", "size", "rows"),
        [
            (GPT2, RowSize(64), 128),
            (GPT2, RowSize(1_024), 64),
            (GPT2, RowSize(1_024, sequences=4), 16),
            (LLAMA_7B, RowSize(500), 16),
            (LLAMA_7B, RowSize(4_000), 8),
            (LLAMA_7B, RowSize(9_000), 4),
            (LLAMA_7B, RowSize(100_000), 1),
        ],
    )
    def test_depend_on_model_row_and_card_but_never_on_free_memory(
        self, layout: CacheLayout, size: RowSize, rows: int
    ) -> None:
        limit = RowLimit(layout, 0, lambda: pytest.fail("not asked"), share_bytes=80 * 2**30)

        assert limit.fixed_rows(size, samples=False) == rows

    @pytest.mark.parametrize(("gibibytes", "rows"), [(-1, 1), (0, 1), (1, 2), (3, 8), (12, 32), (80, 32)])
    def test_take_a_quarter_of_what_the_weights_leave(self, gibibytes: int, rows: int) -> None:
        limit = RowLimit(GPT2, 0, lambda: pytest.fail("not asked"), share_bytes=gibibytes * 2**30)
        size = RowSize(2_500)  # 88 MiB, with scores

        assert limit.fixed_rows(size, samples=False) == rows
        assert rows == 1 or rows * GPT2.cache_bytes(2_500) <= gibibytes * 2**30 / 4

    def test_are_fewer_when_the_scores_of_drawn_tokens_are_large(self) -> None:
        layout = CacheLayout([CacheLayer(1)], (), 0, 2_000_000)
        limit = RowLimit(layout, 0, lambda: pytest.fail("not asked"))

        assert limit.fixed_rows(RowSize(64), samples=True) < limit.fixed_rows(RowSize(64), samples=False)

    def test_of_a_gpu_give_texts_that_do_not_depend_on_other_rows(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", do_sample=True)
        adapter._row_limit = RowLimit(GPT2, 0, lambda: 0)
        rows = encode_texts(adapter, TEXTS, seed=3, max_new_tokens=9)

        together = forward_all(adapter, rows)

        assert {row.max_rows for row in rows} == {128}
        assert together == forward_all(adapter, rows[::-1], token_budget=1)
        for row in rows[:3]:
            assert forward_all(adapter, [row]) == {(row.job.position, 0): together[row.job.position, 0]}
