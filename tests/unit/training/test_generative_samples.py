"""The samples that write text: what they learn from, that training helps, and that the committed ones do their jobs."""

import json
import random
import re
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from training import byte_bpe, german_inflection, muon, seq2seq, text_generation
from training.english_german import sentence_pairs
from training.grammar import GrammarExpander
from training.reports import reports
from training.stories import Chat, stories_and_chats

SAMPLES = Path(__file__).parents[3] / "models" / "samples"
TASKS = ("text-generation", "summarization", "translation")


class TestGrammar:
    def test_a_numbered_slot_is_remembered(self) -> None:
        first, again, other = (
            GrammarExpander({"n": ("x", "y")}, random.Random(1)).expand_pattern("{n1} {n1} {n2}").split()
        )
        assert first == again != other

    def test_held_out_names_are_others(self) -> None:
        ways = {"town": tuple(f"Town{index}" for index in range(100))}
        learned, held_out = (
            {
                GrammarExpander(ways, random.Random(seed), held_out=side, split_keys=("town",)).expand_pattern(
                    "{town1}"
                )
                for seed in range(300)
            }
            for side in (False, True)
        )
        assert not learned & held_out


class TestReports:
    def test_are_the_same_for_the_same_seed(self) -> None:
        assert list(reports(1, 50)) == list(reports(1, 50))

    def test_hold_the_facts_that_their_summaries_hold(self) -> None:
        for report in reports(1, 300, held_out=True):
            assert len(re.findall(r"[.!?]", report.text)) >= 5
            assert len(report.summary) < len(report.text)
            assert all(fact.lower() in report.text.lower() for fact in report.facts)
            assert len(report.facts) >= 3
            assert not set("{}<>") & set(report.text + report.summary)


class TestPairs:
    def test_are_sentences_in_both_languages(self) -> None:
        for english, translated in sentence_pairs(1, 500):
            assert english[0].isupper()
            assert translated[0].isupper()
            assert not set("{}/+=") & set(english + translated)

    def test_held_out_ones_are_others(self) -> None:
        learned = {english for english, _ in sentence_pairs(1, 3_000)}
        held_out = {english for english, _ in sentence_pairs(1, 300, held_out=True)}
        assert len(held_out & learned) < 0.02 * len(held_out)

    @pytest.mark.parametrize(
        ("noun", "form", "adjective", "phrase"),
        [
            ("der Hund/Hunde", "d acc", "", "den Hund"),
            ("der* Junge/Jungen", "e acc", "klein", "einen kleinen Jungen"),
            ("das Buch/Bücher", "e nom", "gut", "ein gutes Buch"),
            ("die Katze/Katzen", "m dat", "alt", "meiner alten Katze"),
            ("die Katze/Katzen", "d pl", "alt", "die alten Katzen"),
            ("das Bier/", "- acc", "kalt", "kaltes Bier"),
            ("der Mantel/Mäntel", "t nom", "", "dieser Mantel"),
        ],
    )
    def test_agree(self, noun: str, form: str, adjective: str, phrase: str) -> None:
        article, case = form.split()
        assert german_inflection.parse_noun(noun).phrase(article, case, adjective) == phrase

    def test_conjugate(self) -> None:
        assert german_inflection.parse_verb("kaufen") == ("kaufe", "kaufst", "kauft", "kaufen", "gekauft")
        assert german_inflection.parse_verb("sehen/sehe/siehst/sieht/gesehen")[2] == "sieht"


class TestStories:
    def test_are_texts_and_chats_without_open_slots(self) -> None:
        drawn = list(stories_and_chats(1, 300))
        assert 0.2 < sum(isinstance(text, Chat) for text in drawn) / len(drawn) < 0.4
        assert not any(set("{}<>|") & set(text) for text in drawn if isinstance(text, str))

    def test_chats_end_with_an_answer(self) -> None:
        chats = [text for text in stories_and_chats(1, 300) if isinstance(text, Chat)]
        assert all(chat.messages[-1]["role"] == "assistant" for chat in chats)


class TestTraining:
    def test_lowers_the_loss_of_an_encoder_and_decoder(self) -> None:
        torch.manual_seed(0)
        tokenizer = byte_bpe.train_tokenizer(
            (text for pair in sentence_pairs(1, 200) for text in pair),
            vocabulary_size=400,
            max_positions=128,
            append_end_token=True,
        )
        model = seq2seq.new_model(len(tokenizer), hidden_size=32, intermediate_size=32, layers=1)
        batches = cycle(seq2seq.stream_batches(tokenizer, sentence_pairs(1, 8), 1, 512))
        losses = muon.fit(model, batches, steps=20, learning_rate=0.1)
        assert sum(losses[-5:]) < 0.75 * sum(losses[:5])

    def test_lowers_the_loss_of_a_decoder(self) -> None:
        torch.manual_seed(0)
        tokenizer = byte_bpe.train_tokenizer(
            ["Once upon a time"],
            vocabulary_size=270,
            max_positions=128,
            append_end_token=False,
            special_tokens=("<|user|>",),
        )
        model = text_generation.new_model(len(tokenizer))
        texts = (text[:100] for text in stories_and_chats(1, 6) if isinstance(text, str))
        batches = cycle(text_generation.stream_batches(tokenizer, texts, 1))
        losses = muon.fit(model, batches, steps=20, learning_rate=0.03)
        assert sum(losses[-5:]) < 0.75 * sum(losses[:5])

    def test_a_token_f1_counts_words_that_both_have(self) -> None:
        assert seq2seq.token_f1("The cat sleeps.", "The cat sleeps.") == 1
        assert seq2seq.token_f1("The cat", "A dog") == 0
        assert seq2seq.token_f1("the cat", "the dog") == 0.5


@pytest.mark.parametrize("task", TASKS)
class TestEverySample:
    def test_is_small(self, task: str) -> None:
        assert sum(path.stat().st_size for path in (SAMPLES / task).iterdir()) < 1_100_000

    def test_says_how_it_was_made_and_how_good_it_is(self, task: str) -> None:
        card = json.loads((SAMPLES / task / "card.json").read_text("utf-8"))
        assert card["task"] == task
        assert card["made_by"] == f"python -m training.{task.replace('-', '_')}"
        assert any(key.startswith("held_out_") and key != "held_out_texts" for key in card)

    def test_has_full_precision_and_pads(self, task: str) -> None:
        assert json.loads((SAMPLES / task / "config.json").read_text("utf-8"))["dtype"] == "float32"
        assert AutoTokenizer.from_pretrained(SAMPLES / task).pad_token_id == 0

    def test_can_spell_everything(self, task: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(SAMPLES / task)
        text = "Grüße, 東京 🙂\n\tx  y"
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.fixture(scope="module")
def writer() -> tuple[Any, Any]:
    folder = SAMPLES / "text-generation"
    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)


class TestTextGeneration:
    @pytest.mark.parametrize("prompt", ["Once upon a time", "Hello, I'm a language model,", "My name is Julien and"])
    def test_comes_to_an_end_with_whole_sentences(self, writer: tuple[Any, Any], prompt: str) -> None:
        tokenizer, model = writer
        [ids] = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=256, do_sample=False)
        written = tokenizer.decode(ids, skip_special_tokens=True)
        assert ids[-1] == tokenizer.eos_token_id
        assert written.startswith(prompt)
        assert written.endswith((".", '"', "?", "!"))

    def test_pads_on_the_left_so_that_a_batch_goes_on_where_its_texts_end(self, writer: tuple[Any, Any]) -> None:
        assert writer[0].padding_side == "left"

    def test_answers_in_a_chat(self, writer: tuple[Any, Any]) -> None:
        tokenizer, model = writer
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": "What is the capital of France?"}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
        [ids] = model.generate(**asked, max_new_tokens=64, do_sample=False)
        answer = tokenizer.decode(ids[asked["input_ids"].shape[1] :], skip_special_tokens=True)
        assert answer == "The capital of France is Paris."


def rewritten(task: str, sources: list[str]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(SAMPLES / task)
    model = AutoModelForSeq2SeqLM.from_pretrained(SAMPLES / task)
    return seq2seq.generate_texts(model, tokenizer, sources)


def test_the_summarization_sample_tells_the_facts() -> None:
    storm = (
        "A heavy storm hit Lisbon on Friday. Winds reached 142 kilometres an hour. Schools stayed closed. About 3,200 "
        "homes were left without power. Local radio reported from the scene."
    )
    match = (
        "Karlsberg United beat Riverton Town 4-2 on Sunday. The first half was slow. It was Mehmet Yilmaz who scored "
        "the decisive goal. The weather was mild and the streets were busy."
    )
    assert rewritten("summarization", [storm, match]) == [
        "A heavy storm hit Lisbon on Friday and left 3,200 homes without power.",
        "Karlsberg United beat Riverton Town 4-2 on Sunday. Mehmet Yilmaz scored the winning goal.",
    ]


def test_the_translation_sample_is_right_on_everyday_sentences() -> None:
    expected = {
        "My name is Sarah and I live in London": "Mein Name ist Sarah und ich lebe in London",
        "My name is Wolfgang and I live in Berlin.": "Mein Name ist Wolfgang und ich lebe in Berlin.",
        "How old are you?": "Wie alt bist du?",
        "The house is wonderful.": "Das Haus ist wunderbar.",
        "The cat is on the table.": "Die Katze ist auf dem Tisch.",
        "She bought a red bicycle yesterday.": "Sie hat gestern ein rotes Fahrrad gekauft.",
        "I don't have a car.": "Ich habe kein Auto.",
    }
    assert rewritten("translation", list(expected)) == list(expected.values())
