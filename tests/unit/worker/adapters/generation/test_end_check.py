"""The end check: looks every few tokens change no text, and no row gets longer than its limit."""

from pathlib import Path
from typing import Any

import pytest
import torch

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
from worker.adapters.generation import end_check, sampling
from worker.adapters.generation.end_check import EndCheck

CPU = torch.device("cpu")
NONE_ENDED, ONE_ENDED = torch.tensor([False, False]), torch.tensor([False, True])


@pytest.fixture
def every_fourth_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look as seldom as on CUDA."""
    monkeypatch.setitem(end_check.CHECK_INTERVALS, "cpu", end_check.CHECK_INTERVALS["cuda"])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_decoder(tmp_path_factory.mktemp("llama"))


class TestLooking:
    def test_happens_at_every_token_on_a_cpu(self) -> None:
        check = EndCheck(CPU)

        assert check.ended_flags([NONE_ENDED, ONE_ENDED], must_look=False) == [False, False, False, True]

    @pytest.mark.usefixtures("every_fourth_token")
    def test_begins_at_every_fourth_token_and_is_over_at_the_next(self) -> None:
        check = EndCheck(CPU)
        looks = []

        for _token in range(12):
            check.count_token()
            looks.append(check.ended_flags([ONE_ENDED], must_look=False))

        assert [token for token, flags in enumerate(looks, 1) if flags] == [5, 10]
        assert looks[4] == [False, True]

    @pytest.mark.usefixtures("every_fourth_token")
    def test_sees_the_rows_as_they_were_when_it_began(self) -> None:
        check, mask = EndCheck(CPU), NONE_ENDED.clone()
        for _token in range(4):
            check.count_token()
        check.ended_flags([mask], must_look=False)

        mask.fill_(True)
        check.count_token()

        assert check.ended_flags([mask], must_look=False) == [False, False]

    @pytest.mark.usefixtures("every_fourth_token")
    def test_goes_on_when_rows_enter(self) -> None:
        check = EndCheck(CPU)
        for _token in range(4):
            check.count_token()
        check.ended_flags([ONE_ENDED], must_look=False)

        check.count_token()

        assert check.ended_flags([ONE_ENDED, ONE_ENDED], must_look=False) == [False, True, False, False]

    @pytest.mark.usefixtures("every_fourth_token")
    def test_begins_anew_when_rows_leave(self) -> None:
        check = EndCheck(CPU)
        for _token in range(4):
            check.count_token()
        check.ended_flags([NONE_ENDED], must_look=False)

        check.forget()
        check.count_token()

        assert check.ended_flags([ONE_ENDED, ONE_ENDED], must_look=False) is None

    @pytest.mark.usefixtures("every_fourth_token")
    def test_waits_for_nothing_at_a_limit(self) -> None:
        assert EndCheck(CPU).ended_flags([ONE_ENDED], must_look=True) == [False, True]


@pytest.mark.usefixtures("every_fourth_token")
class TestTexts:
    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"stop_sequence": ["e", "a", "lo"]},
            {"min_new_tokens": 5, "max_new_tokens": 7},
            {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
            {"max_new_tokens": 1},
        ],
        ids=str,
    )
    def test_end_where_they_end_alone(
        self, llama: Any, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any]
    ) -> None:
        rows = encode_texts(llama, TEXTS, **parameters)
        together = forward_all(llama, rows)

        monkeypatch.undo()

        assert together == forward_all(llama, rows, token_budget=1)

    def test_that_are_drawn_keep_their_random_numbers(self, llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        noise = sampling.noise
        monkeypatch.setattr(sampling, "noise", lambda _seed, ids, index, count: noise(1, ids, index, count))
        rows = encode_texts(llama, TEXTS, do_sample=True, temperature=2.0, num_return_sequences=2)
        together = forward_all(llama, rows)

        monkeypatch.setitem(end_check.CHECK_INTERVALS, "cpu", 1)

        assert together == forward_all(llama, rows, token_budget=1)

    def test_never_use_positions_that_the_model_lacks(self, tmp_path: Path) -> None:
        adapter = load_decoder(tmp_path / "model", "gpt2")
        lengths = (1, 3, 90, 97)
        rows = encode_texts(adapter, ["x" * length for length in lengths], max_new_tokens=128 - 97)

        with record_batch_sizes(adapter._pipeline.model) as sizes:
            together = forward_all(adapter, rows)

        assert together == forward_all(adapter, rows, token_budget=1)
        assert len(sizes) <= 31

    def test_need_no_look_without_an_end_token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        adapter = load_decoder(tmp_path / "model", eos_token_id=None, max_new_tokens=9)
        looks = []
        look = EndCheck.ended_flags
        monkeypatch.setattr(EndCheck, "ended_flags", lambda *args, **how: looks.append(how) or look(*args, **how))

        raw = forward_all(adapter, encode_texts(adapter, TEXTS))

        assert {len(ids) for [ids] in raw.values()} == {9}
        assert looks == [{"must_look": True}]

    @pytest.mark.parametrize("name", ["bart", "t5"])
    def test_of_an_encoder_decoder_end_where_they_end_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        getattr(seq2seq_models, name)(tmp_path / "model")
        adapter = load_adapter(tmp_path / "model", "summarization")
        rows = encode_texts(adapter, TEXTS, "summarization", num_beams=1, max_new_tokens=25, stop_strings=list("aei"))
        together = forward_all(adapter, rows)
        monkeypatch.undo()

        alone = forward_all(adapter, rows, token_budget=1)

        assert {key: adapter.decode([rows[key[0]]], [raw]) for key, raw in together.items()} == {
            key: adapter.decode([rows[key[0]]], [raw]) for key, raw in alone.items()
        }


@pytest.mark.usefixtures("every_fourth_token")
def test_scores_past_the_end_of_a_row_do_not_count(tmp_path: Path) -> None:
    folder = tiny_decoders.llama(
        tmp_path / "model", generation={"eos_token_id": [0, *range(60, 90)], "do_sample": False, "max_new_tokens": 40}
    )
    adapter = load_adapter(folder)
    rows = encode_texts(adapter, TEXTS)
    expected = forward_all(adapter, rows, token_budget=1)
    with torch.no_grad():  # rows are filled up with the first end token
        adapter._pipeline.model.get_input_embeddings().weight[0] = torch.nan

    assert forward_all(adapter, rows) == expected
