"""Small steps of training: batches keep to their bounds, and the loss falls."""

from itertools import islice
from typing import Any, ClassVar

import pytest
import torch

from training import (
    feature_extraction,
    fill_mask,
    ner,
    question_answering,
    text_ranking,
    training_loop,
    wordpiece,
    zero_shot_classification,
)
from training.everyday import everyday_texts
from training.sentences import labelled_sentences
from training.templates import Passage, Span
from training.topics import SUBJECTS, stream_claims


def tokenizer_of(lines: list[str]) -> Any:
    return wordpiece.train_tokenizer(lines, vocabulary_size=800, max_pieces=300, max_positions=256)


class TestBatches:
    ROWS: ClassVar[list[training_loop.Row]] = [
        {"input_ids": [7] * length, "labels": [1] * length} for length in (3, 9, 2, 5, 4)
    ]

    def test_keep_to_their_bounds(self) -> None:
        for batch in training_loop.group_by_length(self.ROWS, max_rows=3, max_tokens=12):
            assert batch["input_ids"].shape[0] <= 3
            assert batch["input_ids"].numel() <= 12

    def test_hold_every_row_once(self) -> None:
        batches = training_loop.group_by_length(self.ROWS, max_rows=2, max_tokens=100)
        assert sorted(int(length) for batch in batches for length in batch["attention_mask"].sum(1)) == [2, 3, 4, 5, 9]

    def test_ask_nothing_of_the_padding(self) -> None:
        batch = training_loop.pad_rows(self.ROWS)
        assert bool((batch["labels"][batch["attention_mask"] == 0] == -100).all())


class TestVocabulary:
    def test_keeps_frequent_words_whole_and_knows_strange_letters(self) -> None:
        tokenizer = tokenizer_of(list(islice(everyday_texts(0), 300)))
        assert tokenizer.tokenize("the capital") == ["the", "capital"]
        assert "[UNK]" not in tokenizer.tokenize("İstanbul Łukasz Žofín")

    def test_is_as_large_as_told(self) -> None:
        assert len(tokenizer_of([text.text for text in islice(labelled_sentences(0), 500)])) == 800


class TestLabels:
    def test_mark_every_piece_of_a_name(self) -> None:
        text = Passage("Łukasz Žofín sings", (Span(0, 12, "PER"),))
        tokenizer = tokenizer_of([text.text])
        [row] = ner.tokenize_and_label(tokenizer, [text])
        pieces = len(tokenizer.tokenize("Łukasz Žofín"))
        assert ner.name_spans(row["labels"]) == {(1, pieces, "PER")}

    def test_are_read_back_as_whole_names(self) -> None:
        person, inside, place = (ner._LABELS.index(label) for label in ("B-PER", "I-PER", "B-LOC"))
        assert ner.name_spans([-100, person, inside, 0, place, place, -100]) == {
            (1, 2, "PER"),
            (4, 4, "LOC"),
            (5, 5, "LOC"),
        }


class TestTraining:
    @pytest.fixture(autouse=True)
    def seeded(self) -> None:
        torch.manual_seed(0)

    def test_lowers_the_loss_of_names(self) -> None:
        tokenizer = tokenizer_of([text.text for text in islice(labelled_sentences(0), 300)])
        rows = list(islice(ner.tokenize_and_label(tokenizer, labelled_sentences(0)), 8))
        model = ner.new_model(len(tokenizer))
        batch = training_loop.pad_rows(rows)
        before = model(**batch).loss.item()
        assert training_loop.fit(model, iter([batch] * 20), steps=20, learning_rate=2e-3) < before / 2

    def test_lowers_the_loss_of_masked_words(self) -> None:
        tokenizer = tokenizer_of(list(islice(everyday_texts(0), 300)))
        rows = list(fill_mask.tokenize_texts(tokenizer, islice(everyday_texts(0), 8)))
        [batch] = fill_mask.mask_tokens([training_loop.pad_rows(rows)], torch.Generator().manual_seed(0))
        model = fill_mask.new_model(len(tokenizer))
        before = model(**batch).loss.item()
        assert training_loop.fit(model, iter([batch] * 20), steps=20, learning_rate=2e-3) < before * 0.7

    def test_with_hints_leaves_the_model_as_it_is_saved(self) -> None:
        tokenizer = tokenizer_of([f"{claim.text} {claim.hypothesis}" for claim in islice(stream_claims(0), 300)])
        learned = training_loop.stream_batches(
            zero_shot_classification.tokenize_claims(tokenizer, stream_claims(0)), 0, max_rows=8
        )
        model = zero_shot_classification.new_model(len(tokenizer))
        weights = set(model.state_dict())
        training_loop.fit_with_hints(model, learned, hint_count=len(SUBJECTS), layer=1, steps=3, learning_rate=1e-3)
        assert set(model.state_dict()) == weights

    def test_moves_only_the_passage_to_later_positions(self) -> None:
        pairs = list(islice(question_answering.questions_on_passages(0), 40))
        tokenizer = tokenizer_of([f"{passage.text} {question.text}" for passage, question in pairs])
        batch = training_loop.pad_rows(list(question_answering.tokenize_pairs(tokenizer, pairs[:4])))
        for shifted in islice(question_answering.shift_positions(iter([batch] * 50), 0), 50):
            asked = shifted["token_type_ids"] == 0
            plain = torch.arange(asked.shape[1]).expand_as(asked)
            assert torch.equal(shifted["position_ids"][asked], plain[asked])
            assert int(shifted["position_ids"].max()) < 384

    def test_brings_texts_on_one_subject_closer(self) -> None:
        pairs = list(islice(feature_extraction.stream_pairs(0), 40))
        tokenizer = tokenizer_of([text for pair in pairs for text in pair[:2]])
        model = feature_extraction.new_model(len(tokenizer)).eval()

        def top_1() -> float:
            with torch.inference_mode():
                vectors = feature_extraction.embed(model, tokenizer, [text for pair in pairs for text in pair[:2]])
            return float((vectors[::2] @ vectors[1::2].T).argmax(dim=1).eq(torch.arange(len(pairs))).float().mean())

        before = top_1()
        feature_extraction.train(model, tokenizer, 0, steps=5)

        assert top_1() > before

    def test_with_hints_for_rankings_leaves_the_model_as_it_is_saved(self) -> None:
        searches = list(islice(text_ranking.stream_candidates(0, 6), 16))
        tokenizer = tokenizer_of([text for _, _, texts in searches for text, _ in texts])
        batch = text_ranking.tokenize_candidates(tokenizer, searches)
        model = text_ranking.new_model(len(tokenizer))
        weights = {name: weight.clone() for name, weight in model.state_dict().items()}

        text_ranking.train(model, iter([dict(batch), dict(batch)]))

        assert model.state_dict().keys() == weights.keys()
        assert not torch.equal(model.classifier.weight, weights["classifier.weight"])
