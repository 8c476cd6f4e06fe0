"""The tagger's adapter: windows as transformers' tokenizers cut them, and what can't be read is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ByT5Tokenizer

from models.errors import JobError, ModelError
from tests.factories import tiny_encoders as encoders
from tests.factories.tiny_models import wordpiece_tokenizer
from worker.adapters.outputs.entities import EntityFinder, label_names
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tasks import token_classification
from worker.adapters.tasks.job_errors import output_or_error
from worker.adapters.tasks.token_classification import TokenClassification, Window
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

LONG = "love hate great " * 10  # 30 tokens


def jobs(texts: Sequence[str], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(texts), 1, 1, parameters=parameters)
    return [Job(lease, position, {"text": text}) for position, text in enumerate(texts)]


def load(folder: Path, **entry: Any) -> TokenClassification:
    adapter = runtime.load(encoders.pipeline_for(folder, "ner", **entry), "cpu", threads=1).adapter
    assert isinstance(adapter, TokenClassification)
    return adapter


def rows(encoded: list[Row] | JobError) -> list[Row]:
    assert isinstance(encoded, list)
    return encoded


def refusal(encoded: list[Row] | JobError) -> JobError:
    assert isinstance(encoded, JobError)
    return encoded


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoders.token_classifier(tmp_path_factory.mktemp("tagger") / "bert", "bert")


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its tokenizer is in plain Python."""
    tokenizer = ByT5Tokenizer(model_max_length=encoders.MAX_POSITIONS)
    return encoders.token_classifier(tmp_path_factory.mktemp("tagger") / "bytes", "bert", tokenizer=tokenizer)


class TestWindows:
    @pytest.mark.parametrize("side", ["right", "left"])
    @pytest.mark.parametrize("limit", [3, 5, 12, 31, 32, 64])
    def test_are_those_of_the_tokenizer(self, tmp_path: Path, side: str, limit: int) -> None:
        tokenizer = wordpiece_tokenizer(truncation_side=side)
        adapter = load(encoders.token_classifier(tmp_path / "bert", "bert", tokenizer=tokenizer), max_length=limit)
        for stride in {0, (limit - 2) // 2, limit - 3}:
            expected = tokenizer(
                LONG,
                truncation=True,
                max_length=limit,
                stride=stride,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
            )

            [windows] = map(rows, adapter.encode(jobs([LONG], aggregation_strategy="simple", stride=stride)))

            assert [list(row.features["input_ids"]) for row in windows] == expected["input_ids"]
            assert [list(row.features["token_type_ids"]) for row in windows] == expected["token_type_ids"]
            assert [row.features.special_tokens_mask for row in windows] == expected["special_tokens_mask"]
            assert [row.features.offset_pairs for row in windows] == [item[1:-1] for item in expected["offset_mapping"]]
            assert [(row.part_index, row.part_count) for row in windows] == [
                (n, len(windows)) for n in range(len(windows))
            ]
            assert not any(row.truncated for row in windows)

    def test_are_the_pipeline_s_to_ask_for_and_the_batch_s_to_set(self, bert: Path) -> None:
        usual = load(bert, max_length=12, truncation="stride")
        set_so = load(bert, max_length=12, truncation="stride", stride=5)

        def starts(adapter: TokenClassification, **parameters: Any) -> list[int]:
            [windows] = map(rows, adapter.encode(jobs([LONG], **parameters)))
            return [row.features.offset_pairs[0][0] for row in windows]

        words = [LONG.find(word) for word in LONG.split()[:3]]
        assert words == [0, 5, 10]
        assert len(starts(usual)) == 4, "a quarter of 10 is 2: 8 new ones in each"
        assert len(starts(usual, aggregation_strategy="none")) == 4
        assert len(starts(set_so)) == 5
        assert len(starts(set_so, stride=0)) == 3

    def test_are_bounded(self, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        adapter = load(bert, max_length=12)
        monkeypatch.setattr(token_classification, "MAX_WINDOWS", 5)

        fits, refused = adapter.encode(jobs(["it " * 14, "it " * 15], aggregation_strategy="simple", stride=9))

        assert len(rows(fits)) == 5
        assert refusal(refused).code == "too_many_windows"

    def test_are_one_where_nothing_limits_a_text(self, bert: Path) -> None:
        adapter = load(bert)
        adapter._special_tokens.max_text_tokens = None

        [[row]] = map(rows, adapter.encode(jobs([LONG], aggregation_strategy="simple", stride=3)))

        assert (row.length, row.truncated) == (32, False)


class TestRefusal:
    def test_of_a_text_too_long_where_it_must_not_be_cut(self, bert: Path) -> None:
        adapter = load(bert, max_length=12, truncation="error")

        fits, refused = adapter.encode(jobs(["it " * 10, LONG]))
        [windows] = adapter.encode(jobs([LONG], aggregation_strategy="first", stride=2))

        assert [(row.length, row.truncated) for row in rows(fits)] == [(12, False)]
        assert refusal(refused).code == "input_too_long"
        assert str(refusal(refused)).startswith("32 tokens; this pipeline takes 12;")
        assert len(rows(windows)) == 4

    @pytest.mark.parametrize("text", ["it", LONG])
    def test_of_a_stride_that_is_too_large(self, bert: Path, text: str) -> None:
        [refused] = load(bert, max_length=12).encode(jobs([text], aggregation_strategy="simple", stride=10))

        assert refusal(refused).code == "stride_too_large"

    @pytest.mark.parametrize(
        "parameters", [{"aggregation_strategy": name} for name in ("first", "average", "max")] + [{"stride": 0}]
    )
    def test_of_words_without_a_fast_tokenizer(self, bytewise: Path, parameters: dict[str, Any]) -> None:
        [refused] = load(bytewise).encode(jobs(["love"], **parameters))

        assert refusal(refused).code == "needs_fast_tokenizer"

    def test_of_a_pipeline_that_can_t_have_windows(self, bert: Path, bytewise: Path) -> None:
        with pytest.raises(ModelError, match="can't be merged"):
            load(bytewise, truncation="stride")
        with pytest.raises(ModelError, match="stride 10 is too large: windows have 10"):
            load(bert, max_length=12, truncation="stride", stride=10)
        with pytest.raises(ModelError, match="no room for text"):
            load(bert, max_length=2)


class TestDecode:
    def test_joins_windows_that_ran_apart_and_out_of_order(self, bert: Path) -> None:
        adapter = load(bert, max_length=12)
        [windows] = map(rows, adapter.encode(jobs([LONG], aggregation_strategy="simple", stride=4)))

        together = adapter.decode(windows, adapter.forward(MicroBatch(tuple(windows))))
        raw = {row.part_index: adapter.forward(MicroBatch((row,)))[0] for row in reversed(windows)}
        apart = adapter.decode(windows, [raw[row.part_index] for row in windows])

        assert [item["start"] for item in together] == [item["start"] for item in apart]
        assert [item["score"] for item in together] == pytest.approx([item["score"] for item in apart], abs=1e-5)
        assert together[-1]["end"] > 100

    @pytest.mark.parametrize(("most", "fits"), [(29, False), (30, True)])
    def test_refuses_more_entities_than_are_held(
        self, bert: Path, monkeypatch: pytest.MonkeyPatch, most: int, fits: bool
    ) -> None:
        monkeypatch.setattr(token_classification, "MAX_ENTITIES", most)
        adapter = load(bert, max_length=12)
        [windows] = map(rows, adapter.encode(jobs([LONG], ignore_labels=[], stride=0)))
        raw = adapter.forward(MicroBatch(tuple(windows)))

        if fits:
            assert len(adapter.decode(windows, raw)) == 30
        else:
            with pytest.raises(JobError, match="more than 29 entities; split the text"):
                adapter.decode(windows, raw)

    @pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
    def test_gives_what_json_can_say(self, bert: Path, strategy: str) -> None:
        adapter = load(bert)
        [encoded] = map(
            rows, adapter.encode(jobs(["loving the 世界"], aggregation_strategy=strategy, ignore_labels=[]))
        )

        output = adapter.decode(encoded, adapter.forward(MicroBatch(tuple(encoded))))

        assert output
        assert json.loads(json.dumps(output)) == output

    def test_rejects_scores_that_are_not_finite(self, bert: Path) -> None:
        adapter = load(bert)
        [encoded] = map(rows, adapter.encode(jobs(["love it"])))

        with pytest.raises(JobError, match="not numbers") as caught:
            adapter.decode(encoded, [np.full((4, 5), np.nan, np.float32)])
        assert caught.value.code == "invalid_output"

    @pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
    @pytest.mark.parametrize("kind", ["bert", "roberta", "bytes"])
    def test_of_many_jobs_gives_the_bytes_of_one_after_the_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        if kind == "bytes":
            made = encoders.token_classifier(tmp_path / kind, "bert", tokenizer=ByT5Tokenizer(model_max_length=64))
        else:
            made = encoders.token_classifier(tmp_path / kind, kind)
        adapter = load(made, max_length=12)
        texts = ["love it", "", "loving the 世界", LONG, "a☃b ☃☃ it", "\u202eخ😀 a\tb", "hate"]
        options = [{"aggregation_strategy": name} for name in (None, "none", "simple", "first", "average", "max")]
        encoded = [
            item
            for parameters in [*options, {"aggregation_strategy": "simple", "stride": 4}, {"stride": 0}]
            for ignored in (None, [], ["PER", "B-LOC"])
            for item in adapter.encode(jobs(texts, **parameters, ignore_labels=ignored))
            if isinstance(item, list)
        ]
        decodable = [
            (windows, [logits.copy() for logits in adapter.forward(MicroBatch(tuple(windows)))]) for windows in encoded
        ]
        decodable[5][1][0][0, 0] = np.nan
        decodable[8][1][-1][-1, -1] = np.inf
        monkeypatch.setattr(token_classification, "MAX_ENTITIES", 8)
        monkeypatch.setattr(token_classification, "MAX_CHUNK_BYTES", 30_000)

        together = list(adapter.decode_many(decodable))

        apart = [output_or_error(adapter.decode, *job) for job in decodable]
        assert list(map(repr, together)) == list(map(repr, apart))
        codes = {output.code for output in together if isinstance(output, JobError)}
        assert codes == {"invalid_output", "output_too_large"}
        assert len({output for output in together if isinstance(output, str)}) > 10

    @pytest.mark.parametrize("id2label", [{0: "O", 1: 1, 2: "B", 3: "C", 4: "D"}, {0: "O", 1: "B-PER"}])
    def test_of_many_jobs_with_labels_that_fit_no_table(self, bert: Path, id2label: dict[int, Any]) -> None:
        adapter = load(bert)
        adapter._pipeline.model.config.id2label = id2label
        labels = label_names(id2label)
        adapter._entity_finder = None if labels is None else EntityFinder(adapter._pipeline.tokenizer, labels)
        windows = [rows(item) for item in adapter.encode(jobs(["love", "the product"], ignore_labels=[]))]
        decodable = [(each, adapter.forward(MicroBatch(tuple(each)))) for each in windows]

        together = list(adapter.decode_many(decodable))

        assert list(map(repr, together)) == [repr(output_or_error(adapter.decode, *job)) for job in decodable]

    def test_is_bit_identical_whatever_else_is_in_the_pass_if_deterministic(self, bert: Path) -> None:
        adapter = load(bert, deterministic=True)
        encoded = [row for item in adapter.encode(jobs(["love", "it " * 9, "great product"])) for row in rows(item)]

        together = adapter.forward(MicroBatch(tuple(encoded)))

        for row, raw in zip(encoded, together, strict=True):
            assert np.array_equal(raw, adapter.forward(MicroBatch((row,)))[0])


def test_a_window_is_put_together_only_when_asked(bert: Path) -> None:
    [[row]] = map(rows, load(bert).encode(jobs(["love it"])))

    assert isinstance(row.features, Window)
    assert list(row.features) == ["input_ids", "token_type_ids"]
    with pytest.raises(KeyError):
        row.features["offset_mapping"]
