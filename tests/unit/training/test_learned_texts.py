"""The generated texts that the samples learn from: repeatable, split in two, and rightly labelled."""

import random
import re
from collections import Counter
from itertools import islice
from typing import Any

import pytest
import torch

from training import (
    everyday,
    personal_sentences,
    prompt_injection,
    question_answering,
    sentences,
    text_ranking,
    tickets,
    topics,
    toxicity,
)
from training.entity_names import EntityNames
from training.facts import FACT_KINDS, FactNarrator, passage_with_questions
from training.guard_classifier import GuardTask, true_labels
from training.templates import fill_open_slots, is_held_out, join_passages, open_slots


def names_drawn(*, kept: bool) -> set[str]:
    return {
        name
        for seed in range(200)
        for cast in [EntityNames(random.Random(seed), held_out=kept)]
        for kind in ("PER", "LOC", "ORG", "MISC")
        for name in [cast.draw(kind)]
    }


@pytest.mark.parametrize(
    "texts",
    [
        sentences.labelled_sentences,
        question_answering.questions_on_passages,
        topics.stream_claims,
        everyday.everyday_texts,
        personal_sentences.personal_sentences,
        prompt_injection.TASK.sentences.texts,
        toxicity.TASK.sentences.texts,
    ],
)
class TestTexts:
    def test_are_the_same_for_the_same_seed(self, texts: Any) -> None:
        assert list(islice(texts(1), 100)) == list(islice(texts(1), 100))

    def test_differ_with_the_seed(self, texts: Any) -> None:
        assert list(islice(texts(1), 100)) != list(islice(texts(2), 100))

    def test_are_others_when_held_out(self, texts: Any) -> None:
        learned = {str(text) for text in islice(texts(1), 1_000)}
        kept = {str(text) for text in islice(texts(1, held_out=True), 300)}
        assert not learned & kept


class TestTickets:
    @staticmethod
    def draw(seed: int, *, held_out: bool = False) -> list[str]:
        rng = random.Random(seed)
        subjects = [tickets.draw_subject(rng) for _ in range(300)]
        return [
            draw(rng, subject, held_out=held_out)
            for subject in subjects
            for draw in (tickets.draw_query, tickets.draw_passage)
        ]

    def test_are_the_same_for_the_same_seed(self) -> None:
        assert self.draw(1) == self.draw(1)
        assert self.draw(1) != self.draw(2)

    def test_are_worded_otherwise_when_held_out(self) -> None:
        learned = {text for seed in range(5) for text in self.draw(seed)}
        assert not learned & set(self.draw(1, held_out=True))

    def test_name_the_thing_of_their_subject(self) -> None:
        rng = random.Random(3)
        leak = tickets.Subject("leak", "kettle")
        assert all(re.search("kettle|boiler", tickets.draw_passage(rng, leak)) for _ in range(50))

    def test_have_one_right_text_among_the_candidates_of_a_search(self) -> None:
        for _search, subject, texts in islice(text_ranking.stream_candidates(1, 6), 100):
            assert [about == subject for _text, about in texts] == [True, *[False] * 5]


class TestNames:
    def test_never_come_twice_in_a_text(self) -> None:
        cast = EntityNames(random.Random(0), held_out=False)
        names = [cast.draw("PER") for _ in range(200)]
        assert len(set(names)) == len(names)

    def test_of_held_out_texts_are_in_no_other(self) -> None:
        assert not names_drawn(kept=True) & names_drawn(kept=False)


class TestSkeletons:
    def test_know_where_each_name_came_to_stand(self) -> None:
        passage = fill_open_slots("did {PER} go to {LOC}?", {"PER": "Anna", "LOC": "Oslo"})
        assert passage.text == "Did Anna go to Oslo?"
        assert [(passage.text[span.start : span.end], span.slot) for span in passage.spans] == [
            ("Anna", "PER"),
            ("Oslo", "LOC"),
        ]

    def test_keep_that_when_they_are_joined(self) -> None:
        both = join_passages(
            [
                fill_open_slots("{PER} sings.", {"PER": "Anna"}),
                fill_open_slots("see a {JOB} and {PER}.", {"PER": "Ben", "JOB": "actor"}),
            ]
        )
        assert both.text == "Anna sings. See an actor and Ben."
        assert [both.text[span.start : span.end] for span in both.spans] == ["Anna", "actor", "Ben"]

    def test_name_their_open_slots_once(self) -> None:
        assert open_slots("{PER} and {PER2} saw {PER}") == ("PER", "PER2")

    def test_keep_about_one_text_in_eight(self) -> None:
        assert 60 < sum(is_held_out(str(number), 8) for number in range(800)) < 140


class TestHiddenSentences:
    @pytest.mark.parametrize("task", [prompt_injection.TASK, toxicity.TASK], ids=lambda task: task.name)
    def test_are_in_half_of_the_texts(self, task: GuardTask) -> None:
        texts = list(islice(task.sentences.texts(0), 1_000))
        kinds = Counter(span.slot for text in texts for span in text.spans)

        assert 0.4 < sum(bool(text.spans) for text in texts) / len(texts) < 0.6
        assert set(kinds) == set(task.sentences.kinds)

    @pytest.mark.parametrize("task", [prompt_injection.TASK, toxicity.TASK], ids=lambda task: task.name)
    def test_have_another_meaning_in_no_calm_text(self, task: GuardTask) -> None:
        hidden, calm = set(), set()
        for text in islice(task.sentences.texts(0), 2_000):
            hidden |= {text.text[span.start : span.end].strip(".!").lower() for span in text.spans}
            calm |= set() if text.spans else {text.text.strip(".!").lower()}

        assert hidden & calm == set()

    def test_make_the_labels_of_a_text(self) -> None:
        hints = torch.tensor([[-100, 0, 1, -100], [-100, 1, 1, -100], [-100, 2, 2, -100], [-100, 3, 3, -100]])

        assert true_labels(hints, toxicity.TASK).tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]]
        assert true_labels(hints.clamp(max=1), prompt_injection.TASK).tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]


class TestPersonalData:
    def test_are_of_all_kinds(self) -> None:
        texts = islice(personal_sentences.personal_sentences(0), 500)
        kinds = Counter(span.slot for text in texts for span in text.spans)

        assert set(kinds) == set(personal_sentences.PERSONAL_KINDS)
        assert min(kinds.values()) > 40

    def test_look_like_what_they_are(self) -> None:
        for text in islice(personal_sentences.personal_sentences(0), 500):
            for span in text.spans:
                value = text.text[span.start : span.end]
                assert value == value.strip()
                assert ("@" in value) == (span.slot == "EMAIL")
                assert any(map(str.isdigit, value)) or span.slot in ("EMAIL", "PERSON")


class TestNamesInSentences:
    def test_are_all_of_the_four_kinds(self) -> None:
        kinds = Counter(span.slot for text in islice(sentences.labelled_sentences(0), 500) for span in text.spans)
        assert set(kinds) == set(sentences.NAME_KINDS)
        assert min(kinds.values()) > 50

    def test_begin_with_a_capital(self) -> None:
        for text in islice(sentences.labelled_sentences(0), 500):
            names = [text.text[span.start : span.end] for span in text.spans]
            assert all(name[0].isupper() or name.startswith(("the ", "iPhone")) for name in names)


class TestQuestions:
    def test_are_answered_where_they_say(self) -> None:
        rng = random.Random(0)
        answers = [
            (question.text, passage.text[question.answer.start : question.answer.end])
            for passage, questions in (passage_with_questions(rng, 3, held_out=False) for _ in range(300))
            for question in questions
            if question.answer
        ]
        prices = [answer for question, answer in answers if question.startswith("How much")]
        years = [answer for question, answer in answers if question.startswith("In what year")]
        assert prices
        assert all(set(price) & set("$£€") or price.endswith(("dollars", "euros")) for price in prices)
        assert years
        assert all(year.isdigit() for year in years)

    def test_have_no_answer_now_and_then(self) -> None:
        asked = [question for _, question in islice(question_answering.questions_on_passages(0), 1_000)]
        assert 0.1 < sum(question.answer is None for question in asked) / len(asked) < 0.4

    def test_are_about_what_the_fact_tells(self) -> None:
        teller = FactNarrator(random.Random(0), held_out=False)
        for kind in FACT_KINDS:
            fact = teller.draw_fact(kind)
            assert all(set(open_slots(ask)) | {slot} <= fact.names.keys() for ask, slot in fact.question_templates())


class TestClaims:
    def test_follow_contradict_or_do_neither(self) -> None:
        labels = Counter(claim.label for claim in islice(topics.stream_claims(0), 2_000))
        assert set(labels) == {topics.CONTRADICTION, topics.NEUTRAL, topics.ENTAILMENT}
        assert min(labels.values()) > 100

    def test_follow_if_they_name_the_topic(self) -> None:
        for claim in islice(topics.stream_claims(0), 2_000):
            if claim.topic >= 0 and claim.topic == claim.claimed_subject:
                assert claim.label == topics.ENTAILMENT, claim

    def test_are_about_a_few_dozen_topics(self) -> None:
        assert len(topics.TOPICS) >= 30
        assert all(set(topic) == {"labels", "things", "deeds"} for topic in topics.TOPICS.values())
