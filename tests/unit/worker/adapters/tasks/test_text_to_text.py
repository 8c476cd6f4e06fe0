"""The adapter for summarization and translation: shared passes, seeds, languages and limits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import JobError
from models.pipelines.catalogue import Pipeline
from tests.factories import tiny_seq2seq
from tests.golden import seq2seq_models, seq2seq_tokenizers
from worker.adapters.rows import GeneratedTexts, MicroBatch, Row
from worker.adapters.tasks.text_to_text import TextToText
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

TEXTS = ["a house", "the", "the river is in the city of 世界 and 😀", "x", "Der Fluss " * 9, "what? " * 5, "the house"]
LANGUAGES = {
    "mbart": {"src_lang": "en_XX", "tgt_lang": "ro_RO"},
    "nllb": {"src_lang": "deu_Latn", "tgt_lang": "zho_Hans"},
    "m2m100": {"src_lang": "de", "tgt_lang": "zh"},
}

Load = Callable[..., TextToText]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("seq2seq")

    def folder(name: str) -> Path:
        if not (base / name).exists():
            getattr(seq2seq_models, name)(base / name)
        return base / name

    return folder


@pytest.fixture
def load(folders: Callable[[str], Path]) -> Load:
    def load(name: str, task: str = "translation", **entry: Any) -> TextToText:
        pipeline = Pipeline(**{"name": "made", "task": task, "model": str(folders(name)), **entry})
        adapter = runtime.load(pipeline, "cpu", threads=1).adapter
        assert isinstance(adapter, TextToText)
        return adapter

    return load


def jobs(texts: Sequence[str], parameters: Mapping[str, Any], batch: int = 1) -> list[Job]:
    lease = Lease(batch, f"batch{batch}", 0, len(texts), 1, 1, parameters=parameters)
    return [Job(lease, position, {"text": text}) for position, text in enumerate(texts)]


def rows(encoded: Sequence[list[Row] | JobError]) -> list[Row]:
    return [row for job in encoded if isinstance(job, list) for row in job]


def errors(encoded: Sequence[list[Row] | JobError]) -> list[JobError]:
    return [job for job in encoded if isinstance(job, JobError)]


def run_jobs(adapter: TextToText, batch_jobs: Sequence[Job], budget: int = 10_000) -> list[Any]:
    """What the jobs come to, packed as the engine packs them, in the jobs' order."""
    found = {}
    for batch in planning.plan_micro_batches(rows(adapter.encode(batch_jobs)), budget, adapter.max_rows):
        for row, raw in zip(batch.rows, adapter.forward(batch), strict=True):
            found[row.job.lease, row.job.position] = adapter.decode([row], [raw])
    return [found[job.lease, job.position] for job in batch_jobs]


class TestCompany:
    @pytest.mark.parametrize("parameters", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}, {}], ids=str)
    @pytest.mark.parametrize("name", ["bart", "t5", "marian", "mbart", "nllb", "m2m100"])
    def test_changes_nothing(self, load: Load, name: str, parameters: dict[str, Any]) -> None:
        adapter = load(name, "summarization" if name in ("bart", "t5") else "translation")
        batch_jobs = jobs(TEXTS, {"max_new_tokens": 20, **LANGUAGES.get(name, {}), **parameters})

        together, alone = run_jobs(adapter, batch_jobs), run_jobs(adapter, batch_jobs, budget=1)

        assert together == alone
        assert len({str(texts) for texts in alone}) == len(TEXTS), "the model tells the texts apart"

    def test_changes_nothing_where_the_same_bits_are_promised(self, load: Load) -> None:
        adapter = load("bart", "summarization", deterministic=True)
        batch_jobs = jobs(TEXTS, {"num_beams": 2})

        assert run_jobs(adapter, batch_jobs) == [run_jobs(adapter, [job])[0] for job in batch_jobs]

    def test_is_for_jobs_with_equal_settings_only(self, load: Load) -> None:
        adapter = load("bart", "summarization")
        asked: list[dict[str, Any]] = [
            {},
            {"num_beams": 2},
            {"max_length": 9},
            {"do_sample": True, "seed": 1},
            {"do_sample": True, "seed": 2},
            {"num_beams": None},
            {"clean_up_tokenization_spaces": True},
        ]

        keys = [rows(adapter.encode(jobs(["a"], item, batch)))[0].key for batch, item in enumerate(asked)]

        assert keys[0] == keys[5] == keys[6]
        assert keys[3] == keys[4]
        assert len(set(keys)) == 4

    def test_too_large_for_the_memory_is_parted(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        adapter = load("bart", "summarization")
        batch_jobs = jobs(TEXTS, {"num_beams": 2})
        whole = run_jobs(adapter, batch_jobs)
        monkeypatch.setattr(adapter._row_limit, "max_tokens", 2 * 24 * 3)
        observed: list[int] = []
        generate = adapter._generator._model.generate
        monkeypatch.setattr(
            adapter._generator._model,
            "generate",
            lambda **how: (observed.append(len(how["input_ids"])), generate(**how))[1],
        )

        assert run_jobs(adapter, batch_jobs) == whole
        assert observed == [3, 3, 1]


class TestTokens:
    @pytest.mark.parametrize("parameters", [{"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
    @pytest.mark.parametrize("name", ["bart", "t5", "marian"])
    def test_are_counted_without_the_decoders_start_and_padding(
        self, load: Load, name: str, parameters: dict[str, Any]
    ) -> None:
        adapter = load(name, "translation" if name == "marian" else "summarization")
        encoded = rows(adapter.encode(jobs(TEXTS, {"max_new_tokens": 9, **parameters})))

        together = [adapter.forward(batch) for batch in planning.plan_micro_batches(encoded, 10_000, adapter.max_rows)]
        alone = [adapter.forward(MicroBatch((row,)))[0] for row in encoded]

        for texts in [*(texts for outputs in together for texts in outputs), *alone]:
            assert isinstance(texts, GeneratedTexts)
            assert 0 < texts.tokens <= 9 * len(texts)
            assert texts.has_ended or texts.tokens >= 9
        counts = [(texts.tokens, texts.has_ended) for texts in alone if isinstance(texts, GeneratedTexts)]
        assert sorted(counts) == sorted(
            (texts.tokens, texts.has_ended)
            for outputs in together
            for texts in outputs
            if isinstance(texts, GeneratedTexts)
        )

    @pytest.mark.parametrize("name", ["bart", "t5"])
    def test_of_a_text_that_its_limit_cut_off(self, load: Load, name: str) -> None:
        """Also where the last token that fits is forced to be the end."""
        adapter = load(name, "summarization")
        encoded = rows(adapter.encode(jobs(["a house"], {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 1})))

        [texts] = adapter.forward(MicroBatch(tuple(encoded)))

        assert isinstance(texts, GeneratedTexts)
        assert (texts.tokens, texts.has_ended) == (4, False)


class TestSampling:
    drawn: Mapping[str, Any] = {"do_sample": True, "max_new_tokens": 12, "top_k": 0, "temperature": 2.0}

    def test_with_a_seed_is_the_same_whatever_else_is_in_the_pass(self, load: Load) -> None:
        adapter = load("t5", "summarization")
        batch_jobs = jobs(TEXTS, {**self.drawn, "seed": 5, "num_return_sequences": 2})

        together = run_jobs(adapter, batch_jobs)

        assert together == run_jobs(adapter, batch_jobs, budget=1)
        assert all(first != second for first, second in together)

    def test_with_a_seed_is_the_same_where_the_same_bits_are_promised(self, load: Load) -> None:
        adapter = load("t5", "summarization", deterministic=True)
        batch_jobs = jobs(TEXTS[:3], {**self.drawn, "seed": 5})

        assert run_jobs(adapter, batch_jobs) == [run_jobs(adapter, [job])[0] for job in batch_jobs]

    def test_with_other_seeds_is_different(self, load: Load) -> None:
        adapter = load("t5", "summarization")
        batch_jobs = [*jobs(["the"], {**self.drawn, "seed": 5}, 1), *jobs(["the"], {**self.drawn, "seed": 6}, 2)]

        one, two = run_jobs(adapter, batch_jobs)

        assert one != two

    def test_without_a_seed_is_different_each_time(self, load: Load) -> None:
        adapter = load("t5", "summarization")
        batch_jobs = jobs(["the"] * 3, self.drawn)

        assert len({str(texts) for texts in run_jobs(adapter, batch_jobs)}) == 3

    def test_of_the_likeliest_alone_is_greedy(self, load: Load) -> None:
        adapter = load("t5", "summarization")
        drawn = {**self.drawn, "top_k": 1, "seed": 1}

        greedy = jobs(TEXTS, {"num_beams": 1, "max_new_tokens": 12}, 2)
        assert run_jobs(adapter, jobs(TEXTS, drawn)) == run_jobs(adapter, greedy)

    def test_of_many_texts_takes_no_beams(self, load: Load) -> None:
        [texts] = run_jobs(load("bart", "summarization"), jobs(["the"], {**self.drawn, "num_return_sequences": 7}))

        assert len(texts) == 7


class TestLanguages:
    def test_of_each_batch_are_its_own(self, load: Load) -> None:
        adapter = load("mbart")
        asked = [("en_XX", "ro_RO"), ("de_DE", "ro_RO"), ("en_XX", "fr_XX")]
        batch_jobs = [
            jobs(["the river"], {"src_lang": source, "tgt_lang": target, "max_new_tokens": 9}, batch)[0]
            for batch, (source, target) in enumerate(asked)
        ]

        encoded = rows(adapter.encode([batch_jobs[0], batch_jobs[1], batch_jobs[2], batch_jobs[0]]))

        assert encoded[0].features == encoded[2].features == encoded[3].features
        assert encoded[0].features != encoded[1].features
        assert encoded[0].key == encoded[1].key != encoded[2].key
        assert [row.job for row in encoded] == [batch_jobs[0], batch_jobs[1], batch_jobs[2], batch_jobs[0]]
        assert len({str(text) for text in run_jobs(adapter, batch_jobs)}) == 3

    @pytest.mark.parametrize("name", ["mbart", "mbart50", "nllb", "m2m100"])
    def test_missing_or_unknown_cost_their_rows_alone(self, load: Load, name: str) -> None:
        adapter = load(name)
        good = LANGUAGES.get(name, LANGUAGES["mbart"])
        batch_jobs = [
            *jobs(["a", "b"], {}, 1),
            *jobs(["a", "b"], good, 2),
            *jobs(["a"], {**good, "tgt_lang": "xx"}, 3),
            *jobs(["a"], {"src_lang": good["src_lang"]}, 4),
        ]

        encoded = adapter.encode(batch_jobs)

        assert [error.code for error in errors(encoded)] == [
            "missing_language",
            "missing_language",
            "unknown_language",
            "missing_language",
        ]
        assert [row.job for row in rows(encoded)] == batch_jobs[2:4]
        assert good["tgt_lang"] in str(encoded[4]), "it says what exists"

    @pytest.mark.parametrize("name", ["marian", "t5"])
    def test_are_of_no_effect_on_models_for_one_pair(self, load: Load, name: str) -> None:
        adapter = load(name)

        with_them, without = (
            run_jobs(adapter, jobs(["the river"], {"max_new_tokens": 9, **batch_jobs}))
            for batch_jobs in ({"src_lang": "en", "tgt_lang": "de"}, {})
        )

        assert with_them == without


class TestLimits:
    long = "the river " * 80

    @pytest.mark.parametrize("name", ["bart", "t5", "marian", "mbart", "m2m100"])
    def test_a_long_text_is_cut_and_marked(self, load: Load, name: str) -> None:
        encoded = rows(load(name).encode(jobs(["the", self.long], LANGUAGES.get(name, {}))))

        assert [(row.truncated, row.length > 20) for row in encoded] == [(False, False), (True, True)]
        assert encoded[1].length == seq2seq_tokenizers.MAX_POSITIONS

    @pytest.mark.parametrize("name", ["bart", "marian"])
    def test_or_costs_its_row_alone(self, load: Load, name: str) -> None:
        encoded = load(name, truncation="error").encode(jobs(["the", self.long, "the"], {}))

        [error] = errors(encoded)
        assert encoded[1] is error
        assert error.code == "input_too_long"
        assert "too many tokens; this pipeline takes 96; cut it" in str(error)

    def test_a_prefix_counts(self, load: Load) -> None:
        whole, bare = (
            rows(load("t5", task).encode(jobs(["the"], {})))[0].length
            for task in ("summarization", "translation_a_to_b")
        )

        assert whole > bare == 2

    def test_writing_ends_where_the_model_s_positions_do(self, load: Load) -> None:
        adapter = load("pegasus", "summarization")
        batch_jobs = {"max_new_tokens": 1_000, "num_beams": 1, "min_new_tokens": 1_000, "no_repeat_ngram_size": 0}

        [raw] = adapter.forward(MicroBatch(tuple(rows(adapter.encode(jobs(["the"], batch_jobs))))))

        assert raw is not None
        assert len(raw[0]) == seq2seq_tokenizers.MAX_POSITIONS + 1

    def test_an_id_beyond_the_model_costs_its_row_alone(self, load: Load) -> None:
        adapter = load("bart", "summarization")
        adapter._tokenizer.add_tokens(["<new>"])

        encoded = adapter.encode(jobs(["the", "the <new> house"], {}))

        assert [error.code for error in errors(encoded)] == ["unknown_token"]
        assert len(rows(encoded)) == 1


class TestParameters:
    def test_that_do_not_fit_the_model_cost_their_rows(self, load: Load) -> None:
        adapter = load("t5", "summarization")  # it keeps three beams
        batch_jobs = [*jobs(["a"], {"num_return_sequences": 4}, 1), *jobs(["a"], {"num_return_sequences": 3}, 2)]

        encoded = adapter.encode(batch_jobs)

        assert [error.code for error in errors(encoded)] == ["invalid_parameters"]
        assert "num_beams 3" in str(encoded[0])
        assert len(run_jobs(adapter, batch_jobs[1:])[0]) == 3

    @pytest.mark.parametrize(
        ("name", "beams", "part"), [("t5", 1, slice(2, 6)), ("marian", 1, slice(4, 7)), ("marian", 3, slice(4, 7))]
    )
    def test_stop_strings_end_a_text(self, load: Load, name: str, beams: int, part: slice) -> None:
        adapter = load(name)
        batch_jobs = {"num_beams": beams, "max_new_tokens": 20}
        [[whole]] = run_jobs(adapter, jobs(["the house"], batch_jobs))
        text = whole["translation_text"]

        [[stopped], [other]] = run_jobs(adapter, jobs(["the house", "x"], {**batch_jobs, "stop_strings": [text[part]]}))

        assert stopped["translation_text"].count(text[part]) == 1
        assert len(stopped["translation_text"]) < len(text)
        assert other["translation_text"]

    def test_clean_up_takes_out_spaces(self, load: Load) -> None:
        adapter = load("t5", "summarization")
        ids = adapter._tokenizer("the house .").input_ids
        row = rows(adapter.encode(jobs(["a"], {})))[0]
        clean = rows(adapter.encode(jobs(["a"], {"clean_up_tokenization_spaces": True})))[0]

        assert adapter.decode([row], [[ids]]) == [{"summary_text": "the house ."}]
        assert adapter.decode([clean], [[ids]]) == [{"summary_text": "the house."}]


class TestUnsound:
    @pytest.mark.parametrize("beams", [1, 3])
    def test_scores_cost_their_row_alone(self, load: Load, beams: int) -> None:
        adapter = load("t5", "summarization")
        [poison] = adapter._tokenizer("世", add_special_tokens=False).input_ids
        with torch.no_grad():
            adapter._generator._model.encoder.embed_tokens.weight = torch.nn.Parameter(
                adapter._generator._model.encoder.embed_tokens.weight.clone()
            )
            adapter._generator._model.encoder.embed_tokens.weight[poison] = torch.nan
        encoded = rows(adapter.encode(jobs(["the", "a 世", "house"], {"num_beams": beams, "max_new_tokens": 5})))

        raw = adapter.forward(MicroBatch(tuple(encoded)))

        assert [item is None for item in raw] == [False, True, False]
        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode([encoded[1]], [raw[1]])
        assert caught.value.code == "invalid_output"


class TestMarian:
    def test_reads_what_is_written_with_the_target_s_pieces(self, load: Load) -> None:
        adapter = load("marian")
        row = rows(adapter.encode(jobs(["a"], {})))[0]
        ids = [adapter._tokenizer.encoder[word] for word in ("▁the", "▁French", "▁house", "</s>", "<pad>")]

        assert adapter.decode([row], [[ids]]) == [{"translation_text": "the house"}]

    def test_leaves_out_numbers_that_no_word_has(self, load: Load) -> None:
        adapter = load("marian")
        row = rows(adapter.encode(jobs(["a"], {})))[0]
        the = adapter._tokenizer.encoder["▁the"]

        assert adapter.decode([row], [[[the, 9_999, 1, the]]]) == [{"translation_text": "the the"}]


def test_rows_stay_unpadded_where_a_model_looks_at_its_input(load: Load) -> None:
    adapter = load("bart", "summarization")
    adapter._settings._defaults.settings["encoder_no_repeat_ngram_size"] = 2  # type: ignore[index]

    one, two, three = rows(adapter.encode(jobs(["a", "the house", "b"], {})))

    assert one.key == three.key != two.key


@pytest.mark.parametrize(("name", "most"), [("bert2bert", 65), ("umt5", 257), ("led", 41)])
def test_others_run_too(tmp_path: Path, name: str, most: int) -> None:
    torch.manual_seed(0)
    folder = getattr(tiny_seq2seq, name)(tmp_path / name)
    adapter = runtime.load(Pipeline(name="made", task="summarization", model=str(folder)), "cpu", threads=1).adapter
    assert isinstance(adapter, TextToText)
    batch_jobs = jobs(["a house", "the", "love it " * 5], {})

    together = run_jobs(adapter, batch_jobs)

    assert together == run_jobs(adapter, batch_jobs, budget=1)
    assert adapter._settings.resolve({}).config.max_length == most


def test_the_filling_of_beams_without_an_end_is_no_text(load: Load) -> None:
    adapter = load("t5")
    adapter._settings._defaults.settings["eos_token_id"] = None  # type: ignore[index]
    asked = {"num_beams": 2, "max_new_tokens": 20, "stop_strings": ["city", "the", "Fluss"]}
    encoded = rows(adapter.encode(jobs(TEXTS, asked)))

    raw = adapter.forward(MicroBatch(tuple(encoded)))

    lengths = {len(ids) for texts in raw for ids in texts or []}
    assert len(lengths) > 1, "some end before others"
    assert all(number >= 0 for texts in raw for ids in texts or [] for number in ids)
