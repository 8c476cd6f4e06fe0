"""Small steps of training: batches keep to their bounds, and the loss falls."""

from itertools import islice
from typing import Any, ClassVar

import pytest
import torch

from training import fill_mask, fitting, hints, ner, question_answering, vocabulary, zero_shot_classification
from training.everyday import texts
from training.sentences import sentences
from training.skeletons import Passage, Span
from training.topics import SUBJECTS, claims


def tokenizer_of(lines: list[str]) -> Any:
    return vocabulary.learn(lines, size=800, pieces=300, positions=256)


class TestBatches:
    ROWS: ClassVar[list[fitting.Row]] = [
        {"input_ids": [7] * length, "labels": [1] * length} for length in (3, 9, 2, 5, 4)
    ]

    def test_keep_to_their_bounds(self) -> None:
        for batch in fitting.batches(self.ROWS, most_rows=3, most_tokens=12):
            assert batch["input_ids"].shape[0] <= 3
            assert batch["input_ids"].numel() <= 12

    def test_hold_every_row_once(self) -> None:
        batches = fitting.batches(self.ROWS, most_rows=2, most_tokens=100)
        assert sorted(int(length) for batch in batches for length in batch["attention_mask"].sum(1)) == [2, 3, 4, 5, 9]

    def test_ask_nothing_of_the_padding(self) -> None:
        batch = fitting.padded(self.ROWS)
        assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())


class TestVocabulary:
    def test_keeps_frequent_words_whole_and_knows_strange_letters(self) -> None:
        tokenizer = tokenizer_of(list(islice(texts(0), 300)))
        assert tokenizer.tokenize("the capital") == ["the", "capital"]
        assert "[UNK]" not in tokenizer.tokenize("İstanbul Łukasz Žofín")

    def test_is_as_large_as_told(self) -> None:
        assert len(tokenizer_of([text.text for text in islice(sentences(0), 500)])) == 800


class TestLabels:
    def test_mark_every_piece_of_a_name(self) -> None:
        text = Passage("Łukasz Žofín sings", (Span(0, 12, "PER"),))
        tokenizer = tokenizer_of([text.text])
        [row] = ner.rows(tokenizer, [text])
        pieces = len(tokenizer.tokenize("Łukasz Žofín"))
        assert ner.names_in(row["labels"]) == {(1, pieces, "PER")}

    def test_are_read_back_as_whole_names(self) -> None:
        person, inside, place = (ner._LABELS.index(label) for label in ("B-PER", "I-PER", "B-LOC"))
        assert ner.names_in([-100, person, inside, 0, place, place, -100]) == {
            (1, 2, "PER"),
            (4, 4, "LOC"),
            (5, 5, "LOC"),
        }


class TestTraining:
    @pytest.fixture(autouse=True)
    def seeded(self) -> None:
        torch.manual_seed(0)

    def test_lowers_the_loss_of_names(self) -> None:
        tokenizer = tokenizer_of([text.text for text in islice(sentences(0), 300)])
        rows = list(islice(ner.rows(tokenizer, sentences(0)), 8))
        model = ner.new_model(len(tokenizer))
        batch = fitting.padded(rows)
        before = model(**batch).loss.item()
        assert fitting.fit(model, iter([batch] * 20), steps=20, rate=2e-3) < before / 2

    def test_lowers_the_loss_of_masked_words(self) -> None:
        tokenizer = tokenizer_of(list(islice(texts(0), 300)))
        rows = list(fill_mask.rows(tokenizer, islice(texts(0), 8)))
        [batch] = fill_mask.masked([fitting.padded(rows)], torch.Generator().manual_seed(0))
        model = fill_mask.new_model(len(tokenizer))
        before = model(**batch).loss.item()
        assert fitting.fit(model, iter([batch] * 20), steps=20, rate=2e-3) < before * 0.7

    def test_with_hints_leaves_the_model_as_it_is_saved(self) -> None:
        tokenizer = tokenizer_of([f"{claim.text} {claim.hypothesis}" for claim in islice(claims(0), 300)])
        learned = fitting.drawn(zero_shot_classification.rows(tokenizer, claims(0)), 0, most_rows=8)
        model = zero_shot_classification.new_model(len(tokenizer))
        weights = set(model.state_dict())
        hints.fit_with_hints(model, learned, kinds=len(SUBJECTS), layer=1, steps=3, rate=1e-3)
        assert set(model.state_dict()) == weights

    def test_moves_only_the_passage_to_later_positions(self) -> None:
        pairs = list(islice(question_answering.asked(0), 40))
        tokenizer = tokenizer_of([f"{passage.text} {question.text}" for passage, question in pairs])
        batch = fitting.padded(list(question_answering.rows(tokenizer, pairs[:4])))
        for shifted in islice(question_answering.shifted(iter([batch] * 50), 0), 50):
            asked = shifted["token_type_ids"] == 0
            plain = torch.arange(asked.shape[1]).expand_as(asked)
            assert torch.equal(shifted["position_ids"][asked], plain[asked])
            assert int(shifted["position_ids"].max()) < 384
