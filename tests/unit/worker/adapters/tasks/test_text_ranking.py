"""Rows and outputs of text-ranking; cross-encoders that Batchmill can't compute are refused by name at load."""

import random
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tasks
from models.embedding.cross_encoder_files import ACTIVATION_NAMES, CrossEncoderFiles
from models.errors import JobError, ModelError
from tests.factories import cross_encoders, tiny_decoders, tiny_encoders
from tests.factories.decoding import decode_alone, decode_together
from tests.factories.tiny_encoders import pipeline_for
from worker.adapters.rows import Row
from worker.adapters.tasks import text_ranking
from worker.adapters.tokenization import special_tokens
from worker.leasing.leases import Job, Lease
from worker.loading import runtime

SPEC = tasks.find_spec("text-ranking")
RANDOM = random.Random(3)
LONG_TEXT = " ".join(RANDOM.choices("love the terrible product , it's great 世界".split(), k=9_000))  # noqa: SIM905


def load(folder: Path, **fields: Any) -> Any:
    return runtime.load(pipeline_for(folder, "text-ranking", **fields), "cpu", threads=1)


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        ({"sentence_transformers": {"activation_fn": "own.Sigmoid"}}, None, "'own.Sigmoid' is unknown here"),
        ({"sbert_ce_default_activation_function": "torch.nn.Softmax"}, None, "'torch.nn.Softmax' is unknown here"),
        ({}, {"activation_fn": ["torch.nn.ReLU"]}, "unknown here"),
        ({}, {"further": ["sentence_transformers.cross_encoder.modules.logit_score.LogitScore"]}, "'LogitScore'"),
        ({}, {"further": ["sentence_transformers.sentence_transformer.modules.pooling.Pooling"]}, "'Pooling'"),
        ({}, {"transformer": {"transformer_task": "text-generation"}}, "made for 'text-generation'"),
        ({}, {"transformer": {"processing_kwargs": {"text": {"truncation": False}}}}, "set text in processing_kwargs"),
        ({}, {"transformer": {"max_seq_length": "24"}}, "max_seq_length is '24'"),
        ({}, {"default_prompt_name": "query"}, "has no prompt of the name"),
        ({}, {"default_prompt_name": "query", "prompts": {"query": 3}}, "are no texts by name"),
    ],
)
def test_refuses_files_by_name(
    config: dict[str, Any], files: dict[str, Any] | None, problem: str, tmp_path: Path
) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    cross_encoders.change_config(folder, **config)
    if files is not None:
        cross_encoders.add_modules(folder, **files)

    with pytest.raises(ModelError, match=problem):
        load(folder)


@pytest.mark.parametrize("content", ["[", "{}", "[]", "[3]", '[{"type": "x.Transformer", "path": "../x"}]'])
def test_refuses_damaged_lists_of_modules(content: str, tmp_path: Path) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model")
    cross_encoders.add_modules(folder)
    (folder / "modules.json").write_text(content, "utf-8")

    with pytest.raises(ModelError, match=r"modules\.json"):
        load(folder)


def test_refuses_a_model_with_several_labels(tmp_path: Path) -> None:
    folder = tiny_encoders.nli_model(tmp_path / "model", "bert")

    with pytest.raises(ModelError, match=r"has 3 labels, .* sentiment-analysis, whose text_pair"):
        load(folder)


def test_refuses_a_model_that_writes_text(tmp_path: Path) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model")

    with pytest.raises(ModelError, match="Qwen2ForCausalLM, which is not a model for this task"):
        load(folder)


@pytest.mark.parametrize("files", [None, {"transformer": {"modality_config": {"message": {}}}}])
def test_refuses_a_chat_template_for_pairs(files: dict[str, Any] | None, tmp_path: Path) -> None:
    folder = cross_encoders.cross_encoder(tmp_path / "model", "llama")
    if files is not None:
        cross_encoders.add_modules(folder, **files)
    template = '{% for message in messages %}{% if message.role in ["query", "document"] %}{{ message.content }}'
    (folder / "chat_template.jinja").write_text(template + "{% endif %}{% endfor %}", "utf-8")

    with pytest.raises(ModelError, match="through a chat template"):
        load(folder)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(cross_encoders.cross_encoder(tmp_path_factory.mktemp("ranker") / "model")).adapter


def with_limits(adapter: Any, **limits: Any) -> Any:
    adapter = copy(adapter)
    adapter._limits = replace(adapter._limits, **limits)
    return adapter


def make_jobs(inputs: Sequence[dict[str, Any]], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(inputs), 1, 1, parameters=SPEC.check_parameters(parameters))
    return [Job(lease, position, SPEC.normalise(given)) for position, given in enumerate(inputs)]


def contents(encoded: list[Row] | JobError) -> Any:
    if isinstance(encoded, JobError):
        return encoded.code
    return [(row.part_index, row.part_count, row.truncated, list(row.features["input_ids"])) for row in encoded]


class TestRows:
    def test_equal_texts_share_a_row(self, adapter: Any) -> None:
        [rows] = adapter.encode(make_jobs([{"query": "great", "texts": ["love", "hate", "love"]}]))

        assert [(row.part_index, row.part_count) for row in rows] == [(0, 2), (1, 2)]

    @pytest.mark.parametrize("truncation", ["truncate", "error", "stride"])
    def test_long_texts_come_to_the_rows_of_one_call(
        self, adapter: Any, truncation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lists = [[LONG_TEXT], ["love", LONG_TEXT, LONG_TEXT[9:]], ["love", "hate"]]
        queries = ["great", "love " * 40, LONG_TEXT, LONG_TEXT[::-1]]
        jobs = make_jobs([{"query": query, "texts": texts} for query in queries for texts in lists])
        adapter = with_limits(adapter, truncation=truncation)

        in_pieces = [contents(rows) for rows in adapter.encode(jobs)]

        monkeypatch.setattr(special_tokens, "PIECE_CHARACTERS", 10**9)
        assert in_pieces == [contents(rows) for rows in adapter.encode(jobs)]

    def test_rows_do_not_depend_on_other_jobs(self, adapter: Any) -> None:
        jobs = make_jobs(
            [
                {"query": "great", "text": LONG_TEXT},
                {"query": LONG_TEXT, "text": "great"},
                {"query": LONG_TEXT, "text": LONG_TEXT[1:]},
            ]
        )

        together = [contents(rows) for rows in adapter.encode(jobs)]

        assert together == [contents(adapter.encode([job])[0]) for job in jobs]

    def test_a_pair_that_may_not_be_cut_fails_alone(self, adapter: Any) -> None:
        jobs = make_jobs([{"query": "a", "text": "it " * 59}, {"query": "a", "texts": ["it", "it " * 61]}])

        fits, refused = with_limits(adapter, truncation="error").encode(jobs)

        assert not isinstance(fits, JobError)
        assert str(refused) == "65 tokens with the query; this pipeline takes 64; cut the text or the query"

    def test_the_tokens_of_all_pairs_are_bounded(self, adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(text_ranking, "MAX_TOKENS_OF_JOB", 50)
        jobs = make_jobs([{"query": "a " * 30, "texts": ["it", "a", "love"]}, {"query": "a", "texts": ["it", "a"]}])

        refused, fits = adapter.encode(jobs)

        assert str(refused).startswith("93 tokens, because each text is read with the query; at most 50 in all")
        assert len(fits) == 2


TEXTS = st.lists(st.sampled_from(["a", "b", "c", 'd "quoted"', "e\u2028\\"]), min_size=1, max_size=6)
LOGITS = st.one_of(
    st.floats(-30, 30, width=32), st.sampled_from([0.0, -0.0, 1e-40, 3e38, -104.0, float("inf"), float("nan")])
)
PARAMETERS: list[dict[str, Any]] = [
    {},
    {"top_k": 1},
    {"top_k": 3, "return_texts": True},
    {"function_to_apply": "none", "return_texts": True},
    {"function_to_apply": "sigmoid"},
]


@given(draw=st.data(), activation=st.sampled_from(ACTIVATION_NAMES))
@settings(max_examples=30, deadline=None)
def test_outputs_have_the_bytes_of_those_decoded_alone(adapter: Any, draw: st.DataObject, activation: str) -> None:
    adapter = copy(adapter)
    adapter._files = CrossEncoderFiles(activation)
    jobs = []
    for position in range(draw.draw(st.integers(1, 12))):
        [job] = make_jobs(
            [
                draw.draw(
                    st.one_of(
                        st.just({"query": "q", "text": "a"}), st.builds(lambda x: {"query": "q", "texts": x}, TEXTS)
                    )
                )
            ],
            **draw.draw(st.sampled_from(PARAMETERS)),
        )
        job = replace(job, position=position)
        count = len(dict.fromkeys(job.input.get("texts") or ["a"]))
        rows = [Row(job, None, 3, truncated=False, part_index=part, part_count=count) for part in range(count)]
        jobs.append((rows, [np.array([draw.draw(LOGITS)], np.float32) for _ in rows]))

    together = decode_together(adapter, jobs)

    assert together == decode_alone(adapter, jobs)
    for (rows, _), output in zip(jobs, together, strict=True):
        assert output.startswith(
            "JobError" if "not numbers" in output else '{"score"' if "text" in rows[0].job.input else "["
        )


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_an_activation_looks_at_one_number_at_a_time(name: str, adapter: Any) -> None:
    adapter = copy(adapter)
    adapter._files = CrossEncoderFiles(name)
    logits = np.linspace(-9, 9, 37, dtype=np.float32)

    scores = adapter._activate(logits, {})

    assert scores.tolist() == [adapter._activate(logits[place : place + 1], {}).item() for place in range(37)]
    expected = cross_encoders.activation(name)(cross_encoders.tensor(logits))
    assert scores == pytest.approx(expected.numpy(), abs=1e-6)
