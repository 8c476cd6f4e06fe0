"""Beam search: rows leave when their best texts are final, and get the texts of transformers for each row alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories.forward_passes import (
    TEXTS,
    encode_texts,
    forward_all,
    load_adapter,
    load_decoder,
    record_batch_sizes,
)
from tests.golden import seq2seq_models
from worker.adapters.generation import continuous_batching

SEARCH_PARAMETERS = st.fixed_dictionaries(
    {"num_beams": st.integers(2, 4), "max_new_tokens": st.integers(4, 16)},
    optional={
        "num_return_sequences": st.integers(1, 2),
        "early_stopping": st.sampled_from([True, False, "never"]),
        "length_penalty": st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
        "repetition_penalty": st.sampled_from([0.7, 1.3]),
        "no_repeat_ngram_size": st.integers(1, 3),
        "min_new_tokens": st.integers(0, 4),
    },
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_decoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bart")
    seq2seq_models.bare_bart(folder)
    return load_adapter(folder, "summarization")


@pytest.fixture
def transformers_outputs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The outputs of transformers' own search, run for each row alone."""

    def outputs(adapter: Any, rows: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(continuous_batching, "custom_generate_for", lambda _config: None)
            return forward_all(adapter, rows, token_budget=1)

    return outputs


class TestRowRemoval:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "bloom"])
    def test_does_not_change_the_output_of_other_rows(
        self, tmp_path: Path, transformers_outputs: Any, architecture: str
    ) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        texts = [chr(code) * 3 for code in range(65, 75)] if architecture == "bloom" else TEXTS
        rows = encode_texts(adapter, texts, num_beams=3, max_new_tokens=24)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == transformers_outputs(adapter, rows)
        assert sizes[-1] < max(sizes) == 3 * len(texts)
        assert all(size % 3 == 0 for size in sizes)

    @pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
    @pytest.mark.parametrize("early_stopping", [True, False, "never"])
    @pytest.mark.parametrize("name", ["bare_bart", "t5", "marian"])
    def test_does_not_change_the_output_of_other_rows_of_an_encoder_decoder(
        self, tmp_path: Path, transformers_outputs: Any, name: str, early_stopping: Any
    ) -> None:
        getattr(seq2seq_models, name)(tmp_path / "model")
        adapter = load_adapter(tmp_path / "model", "summarization")
        texts = ["a house", "the", "the river is in the city", "x", "Der Fluss " * 9, "what? " * 5, "the house"] * 2
        # Vowels are frequent, so that every text ends.
        parameters = {
            "num_beams": 4,
            "max_new_tokens": 25,
            "early_stopping": early_stopping,
            "stop_strings": list("aei"),
        }
        rows = encode_texts(adapter, texts, "summarization", **parameters)

        with record_batch_sizes(adapter._generator._model) as sizes:
            together = forward_all(adapter, rows)

        assert without_special_tokens(adapter, together) == without_special_tokens(
            adapter, transformers_outputs(adapter, rows)
        )
        assert early_stopping == "never" or sizes[-1] < sizes[0] == 4 * len(texts)

    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(
        texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6),
        parameters=SEARCH_PARAMETERS,
        has_stops=st.booleans(),
    )
    def test_does_not_change_outputs_for_any_parameters(
        self, llama: Any, transformers_outputs: Any, texts: list[str], parameters: dict[str, Any], has_stops: bool
    ) -> None:
        stops = {"stop_sequence": ["e", "lo", "W"]} if has_stops else {}
        rows = encode_texts(llama, texts, **parameters, **stops)

        together = forward_all(llama, rows)

        assert without_special_tokens(llama, together) == without_special_tokens(
            llama, transformers_outputs(llama, rows)
        )

    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    )
    @given(
        texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6),
        parameters=SEARCH_PARAMETERS,
        has_stops=st.booleans(),
    )
    def test_does_not_change_outputs_of_an_encoder_decoder_for_any_parameters(
        self, bart: Any, transformers_outputs: Any, texts: list[str], parameters: dict[str, Any], has_stops: bool
    ) -> None:
        stops = {"stop_strings": ["e", "lo", "th"]} if has_stops else {}
        rows = encode_texts(bart, texts, "summarization", **parameters, **stops)

        together = forward_all(bart, rows)

        assert without_special_tokens(bart, together) == without_special_tokens(bart, transformers_outputs(bart, rows))

    def test_keeps_track_of_the_rows_with_nan_scores(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model")
        rows = encode_texts(adapter, [*TEXTS[:6], "~~", *TEXTS[6:]], num_beams=2, max_new_tokens=12)
        expected = forward_all(adapter, rows)
        token = rows[6].features["input_ids"][0]
        with torch.no_grad():
            adapter._pipeline.model.get_input_embeddings().weight[token] = torch.nan

        raw = forward_all(adapter, rows)

        assert raw[6, 0] is None
        finite = {key: texts for key, texts in raw.items() if texts is not None}
        assert finite
        assert all(texts == expected[key] for key, texts in finite.items())


def without_special_tokens(adapter: Any, texts: dict[tuple[int, int], Any]) -> dict[tuple[int, int], list[list[int]]]:
    """Token ids without the special ones, with which transformers fills up shorter texts."""
    special = set(adapter._tokenizer.all_special_ids)
    return {
        key: [[token for token in ids if token not in special] for ids in sequences] for key, sequences in texts.items()
    }
