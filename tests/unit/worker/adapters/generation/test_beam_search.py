"""Beams: rows leave when their best texts are settled, and get what transformers finds for each alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.golden import seq2seq_models
from tests.passes_made import TEXTS, encode_texts, forward_all, load_adapter, load_decoder, record_batch_sizes
from worker.adapters.generation import continuous_batching

SEARCHES = st.fixed_dictionaries(
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
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What transformers' own search writes, for each row alone."""

    def alone(adapter: Any, rows: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(continuous_batching, "custom_generate_for", lambda _config: None)
            return forward_all(adapter, rows, token_budget=1)

    return alone


class TestLeaving:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "bloom"])
    def test_changes_nothing_for_the_others(self, tmp_path: Path, theirs: Any, architecture: str) -> None:
        adapter = load_decoder(tmp_path / "model", architecture)
        texts = [chr(code) * 3 for code in range(65, 75)] if architecture == "bloom" else TEXTS
        rows = encode_texts(adapter, texts, num_beams=3, max_new_tokens=24)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == theirs(adapter, rows)
        assert sizes[-1] < max(sizes) == 3 * len(texts)
        assert all(size % 3 == 0 for size in sizes)

    @pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
    @pytest.mark.parametrize("early", [True, False, "never"])
    @pytest.mark.parametrize("name", ["bare_bart", "t5", "marian"])
    def test_changes_nothing_for_an_encoder_decoder_s_others(
        self, tmp_path: Path, theirs: Any, name: str, early: Any
    ) -> None:
        getattr(seq2seq_models, name)(tmp_path / "model")
        adapter = load_adapter(tmp_path / "model", "summarization")
        texts = ["a house", "the", "the river is in the city", "x", "Der Fluss " * 9, "what? " * 5, "the house"] * 2
        # Vowels are frequent: each ends somewhere.
        asked = {"num_beams": 4, "max_new_tokens": 25, "early_stopping": early, "stop_strings": list("aei")}
        rows = encode_texts(adapter, texts, "summarization", **asked)

        with record_batch_sizes(adapter._generator._model) as sizes:
            together = forward_all(adapter, rows)

        assert shown(adapter, together) == shown(adapter, theirs(adapter, rows))
        assert early == "never" or sizes[-1] < sizes[0] == 4 * len(texts)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6), asked=SEARCHES, stops=st.booleans())
    def test_changes_nothing_whatever_is_asked_for(
        self, llama: Any, theirs: Any, texts: list[str], asked: dict[str, Any], stops: bool
    ) -> None:
        rows = encode_texts(llama, texts, **asked, **({"stop_sequence": ["e", "lo", "W"]} if stops else {}))

        together = forward_all(llama, rows)

        assert shown(llama, together) == shown(llama, theirs(llama, rows))

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=6), asked=SEARCHES, stops=st.booleans())
    def test_changes_nothing_for_an_encoder_decoder_whatever_is_asked_for(
        self, bart: Any, theirs: Any, texts: list[str], asked: dict[str, Any], stops: bool
    ) -> None:
        more = {"stop_strings": ["e", "lo", "th"]} if stops else {}
        rows = encode_texts(bart, texts, "summarization", **asked, **more)

        together = forward_all(bart, rows)

        assert shown(bart, together) == shown(bart, theirs(bart, rows))

    def test_does_not_mix_up_whose_scores_were_no_numbers(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model")
        rows = encode_texts(adapter, [*TEXTS[:6], "~~", *TEXTS[6:]], num_beams=2, max_new_tokens=12)
        expected = forward_all(adapter, rows)
        poison = rows[6].features["input_ids"][0]
        with torch.no_grad():
            adapter._pipeline.model.get_input_embeddings().weight[poison] = torch.nan

        raw = forward_all(adapter, rows)

        assert raw[6, 0] is None
        sound = {place: texts for place, texts in raw.items() if texts is not None}
        assert sound
        assert all(texts == expected[place] for place, texts in sound.items())


def shown(adapter: Any, texts: dict[tuple[int, int], Any]) -> dict[tuple[int, int], list[list[int]]]:
    """Token ids without special ones: with those transformers fills up what is shorter than a row's longest text."""
    special = set(adapter._tokenizer.all_special_ids)
    return {
        place: [[token for token in ids if token not in special] for ids in sequences]
        for place, sequences in texts.items()
    }
