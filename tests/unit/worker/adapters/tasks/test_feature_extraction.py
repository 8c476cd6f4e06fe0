"""Vectors of texts: in windows, after prompts, with equal bits, and decoded together as alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from models import vectors
from models.errors import JobError, ModelError
from models.pipelines.model_files import ModelFiles
from tests.factories import tiny_architectures, tiny_decoders, tiny_encoders
from tests.factories.forward_passes import encode_texts
from tests.factories.sentence_models import add_modules, write_json
from tests.factories.tiny_encoders import pipeline_for
from tests.golden import seq2seq_models
from worker.adapters.tasks import feature_extraction
from worker.adapters.tasks.job_errors import non_finite_vector
from worker.leasing.leases import Job, Lease
from worker.loading import runtime
from worker.passes import planning

LIMIT, STRIDE = 16, 3
CLOSE = 1e-5
PROMPTS = {"query": "the query: ", "empty": ""}
DENSE = ("Dense", {"in_features": 32, "out_features": 8})
TEXTS = ["love", "hate the product " * 4, "a", "世界 é " * 9, "great " * 30, "the loved it", "it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with prompts, a dense layer and a normalization."""
    folder = tiny_encoders.masked_lm(tmp_path_factory.mktemp("embedding") / "model", "bert")
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS})
    return add_modules(folder, {"include_prompt": False, "pooling_mode": "mean"}, [DENSE, ("Normalize", {})])


def load(folder: Path, **entry: Any) -> Any:
    return runtime.load(pipeline_for(folder, "embeddings", **entry), "cpu", threads=1).adapter


def jobs_of(texts: Sequence[str], **parameters: Any) -> list[Job]:
    lease = Lease(1, "batch", 0, len(texts), 1, 1, parameters=parameters)
    return [Job(lease, position, {"text": text}) for position, text in enumerate(texts)]


def embed(adapter: Any, jobs: Sequence[Job], budget_tokens: int = 200) -> list[Any]:
    """Return each job's output, decoded alone; outputs decoded together are the same bytes."""
    encoded = adapter.encode(jobs)
    assert not [rows for rows in encoded if isinstance(rows, JobError)]
    raw: dict[tuple[int, int], Any] = {}
    for batch in planning.plan_micro_batches([row for rows in encoded for row in rows], budget_tokens, 512):
        for row, output in zip(batch.rows, adapter.forward(batch), strict=True):
            raw[id(row.job), row.part_index] = output
    decodable = [(rows, [raw[id(rows[0].job), row.part_index] for row in rows]) for rows in encoded]
    outputs = [adapter.decode(*job) for job in decodable]
    together = list(adapter.decode_many(decodable))
    assert [output for output in together if isinstance(output, bytes)] == [
        output for output in outputs if isinstance(output, bytes)
    ]
    return outputs


def to_array(outputs: Sequence[bytes]) -> Any:
    return np.array([vectors.to_numbers(output) for output in outputs])


def test_batches_with_other_parameters_share_no_pass(folder: Path) -> None:
    adapter = load(folder)
    parameters: list[Mapping[str, Any]] = [{}, {"dimensions": 3}, {"pooling": "none"}, {"prompt_name": "query"}, {}]
    jobs = [jobs_of([f"love it {index}"], **parameters[index % 5])[0] for index in range(20)]

    rows = [row for rows in adapter.encode(jobs) for row in rows]
    planned = planning.plan_micro_batches(rows, 10_000, 512)

    assert len(planned) == 4
    for batch in planned:
        assert len({str(row.job.lease.parameters) for row in batch.rows}) == 1


def test_parameters_decide_the_shape(folder: Path) -> None:
    adapter = load(folder)

    [whole], [cut], [tokens] = (
        embed(adapter, jobs_of(["love it"], **parameters))
        for parameters in ({}, {"dimensions": 3}, {"pooling": "none"})
    )

    assert (vectors.dimensions(whole), vectors.dimensions(cut)) == (8, 3)
    assert np.array(tokens).shape == (1, 4, 32)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"prompt_name": "nope"}, "has no prompt of this prompt_name; it has query, empty"),
        ({"dimensions": 9}, "the model's vectors have 8 numbers"),
    ],
)
def test_a_job_fails_by_parameters_that_the_model_lacks(folder: Path, parameters: Any, problem: str) -> None:
    adapter = load(folder)

    [refused, fine] = adapter.encode([*jobs_of(["love"], **parameters), *jobs_of(["love"])])

    assert isinstance(refused, JobError)
    assert refused.code == "invalid_parameters"
    assert problem in str(refused)
    assert isinstance(fine, list)


def test_a_prompt_that_fills_the_model_is_refused(folder: Path) -> None:
    [refused] = load(folder, max_length=5).encode(jobs_of(["love"], prompt_name="query"))

    assert isinstance(refused, JobError)
    assert "the prompt leaves no room for text" in str(refused)


def test_a_default_prompt_that_fills_the_model_is_refused_at_load(tmp_path: Path) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"))
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": {"q": "love it " * 9}, "default_prompt_name": "q"}
    )

    assert load(folder).max_rows
    with pytest.raises(ModelError, match="default prompt leaves no room for text in 16 tokens"):
        load(folder, max_length=LIMIT)


@pytest.mark.parametrize("entry", [{}, {"truncation": "stride"}])
def test_a_text_whose_tokens_are_the_prompt_s_is_told_so(tmp_path: Path, entry: Any) -> None:
    folder = add_modules(tiny_decoders.qwen2(tmp_path / "model"), {"pooling_mode": "mean", "include_prompt": 0})
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"q": "lo"}})

    [swallowed, fine] = load(folder, **entry).encode(jobs_of(["ve", "ve love"], prompt_name="q"))

    assert isinstance(swallowed, JobError)
    assert "which do not count" in str(swallowed)
    assert isinstance(fine, list)


def test_a_longer_text_is_cut_or_refused(folder: Path) -> None:
    [cut] = load(folder, max_length=LIMIT).encode(jobs_of(["great " * 30]))
    [refused] = load(folder, max_length=LIMIT, truncation="error").encode(jobs_of(["great " * 30]))

    assert isinstance(cut, list)
    assert (cut[0].length, cut[0].truncated) == (LIMIT, True)
    assert isinstance(refused, JobError)
    assert refused.code == "input_too_long"


@pytest.mark.parametrize("aggregation", ["mean", "max", "first", "weighted"])
@pytest.mark.parametrize("prompt_name", [None, "query"])
def test_windows_are_pooled_and_then_joined_before_the_layers(
    folder: Path, aggregation: str, prompt_name: str | None
) -> None:
    windowed = {"max_length": LIMIT, "truncation": "stride", "stride": STRIDE, "window_aggregation": aggregation}
    adapter = load(folder, **windowed)

    ours = to_array(embed(adapter, jobs_of(TEXTS, prompt_name=prompt_name)))

    expected = [
        _window_reference(folder, adapter, text, PROMPTS[prompt_name or "empty"], aggregation) for text in TEXTS
    ]
    assert np.abs(ours - np.array(expected)).max() < CLOSE


def test_a_text_that_fits_has_the_same_vector_with_and_without_windows(folder: Path) -> None:
    texts = [text for text in TEXTS if len(text) < 20]
    windowed = load(folder, max_length=LIMIT, truncation="stride")

    ours = to_array(embed(windowed, jobs_of(texts, prompt_name="query", normalize=True, dimensions=5)))

    whole = to_array(embed(load(folder), jobs_of(texts, prompt_name="query", normalize=True, dimensions=5)))
    assert np.abs(ours - whole).max() < CLOSE


def test_windows_without_pooling_are_lists_one_after_the_other(folder: Path) -> None:
    [output] = embed(load(folder, max_length=LIMIT, truncation="stride"), jobs_of(["great " * 30], pooling="none"))

    assert len(output) == 3
    assert all(len(window) <= LIMIT for window in output)


@pytest.mark.parametrize("entry", [{}, {"max_length": LIMIT, "truncation": "stride"}])
def test_the_vectors_of_all_tokens_are_bounded(folder: Path, entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_extraction, "MAX_TOKEN_NUMBERS", 12 * 32)
    adapter = load(folder, **entry)

    refused, fits = adapter.encode(jobs_of(["great " * 30, "great " * 10], pooling="none"))
    [pooled] = adapter.encode(jobs_of(["great " * 30]))

    assert isinstance(refused, JobError)
    assert refused.code == "output_too_large"
    assert "at most 384 are stored" in str(refused)
    assert isinstance(fits, list)
    assert isinstance(pooled, list)


def test_a_prompt_must_leave_room_in_each_window(folder: Path) -> None:
    adapter = load(folder, max_length=LIMIT, truncation="stride", stride=LIMIT - 3)

    [refused, fine] = adapter.encode(jobs_of(["great " * 30, "a"], prompt_name="query"))

    assert isinstance(refused, JobError)
    assert "leaves too little room" in str(refused)
    assert isinstance(fine, list)


@pytest.mark.parametrize("truncation", ["truncate", "stride"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "weighted_mean"])
def test_deterministic_vectors_have_the_same_bits_among_any_rows(folder: Path, pooling: str, truncation: str) -> None:
    adapter = load(folder, deterministic=True, truncation=truncation, max_length=40)
    jobs = jobs_of(TEXTS, pooling=pooling)

    together = embed(adapter, jobs, 2_000)

    assert together == embed(adapter, jobs[::-1], 100)[::-1]
    assert together == [embed(adapter, [job])[0] for job in jobs]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "weighted_mean"])
def test_vectors_do_not_depend_on_the_other_rows(folder: Path, pooling: str) -> None:
    adapter = load(folder)
    jobs = jobs_of(TEXTS, pooling=pooling, normalize=False)

    together = to_array(embed(adapter, jobs, 2_000))

    alone = np.concatenate([to_array(embed(adapter, [job])) for job in jobs])
    assert np.abs(together - alone).max() < CLOSE


def test_the_share_of_mask_tokens_is_that_of_each_text(tmp_path: Path) -> None:
    tiny_architectures.save_random_model(tmp_path / "model", "feature-extraction", "esm")
    adapter = load(add_modules(tmp_path / "model"))
    jobs = jobs_of(["love the [MASK] it", "a", "hate the product " * 10])

    together = to_array(embed(adapter, jobs, 2_000))

    alone = np.concatenate([to_array(embed(adapter, [job])) for job in jobs])
    assert np.abs(together - alone).max() < CLOSE
    assert adapter.uses_packing


@pytest.mark.parametrize("pooling_key", ["pooling_mode_cls_token", "pooling_mode_lasttoken"])
def test_a_model_pooled_by_one_token_computes_no_other_in_its_last_layer(tmp_path: Path, pooling_key: str) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), {pooling_key: True})
    adapter = load(folder)
    last_layer = adapter._model.encoder.layer[-1].output
    sizes: list[int] = []
    last_layer.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-2]))

    own = to_array(embed(adapter, jobs_of(TEXTS), 2_000))
    assert sizes == [len(TEXTS)]

    by_mean = to_array(embed(adapter, jobs_of(TEXTS, pooling="mean"), 2_000))
    assert sizes[1] > len(TEXTS)
    padded = load(folder, attention="eager")
    assert np.abs(own - to_array(embed(padded, jobs_of(TEXTS)))).max() < CLOSE
    assert np.abs(by_mean - to_array(embed(padded, jobs_of(TEXTS, pooling="mean")))).max() < CLOSE


def test_numbers_that_are_none_fail_their_job_only(folder: Path) -> None:
    adapter = load(folder)
    rows = encode_texts(adapter, ["love", "hate"], "embeddings")
    outputs = [np.zeros(8, np.float32), np.array([np.nan, *[0.0] * 7], np.float32)]

    decoded = list(adapter.decode_many([([row], [output]) for row, output in zip(rows, outputs, strict=True)]))

    assert decoded[0] == bytes(32)
    assert repr(decoded[1]) == repr(non_finite_vector())
    with pytest.raises(JobError):
        adapter.decode([rows[1]], [outputs[1]])


def test_a_tokenizer_that_ends_texts_and_pads_on_the_left_is_taken(tmp_path: Path) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model")
    backend = tiny_decoders.byte_level_tokenizer().backend_tokenizer
    backend.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 0)])
    special = {"eos_token": "<|end|>", "pad_token": "<|pad|>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, padding_side="left", **special)
    tokenizer.save_pretrained(folder)
    adapter = load(add_modules(folder, {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False}))

    together = to_array(embed(adapter, jobs_of(TEXTS), 2_000))

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = [tokenizer(text, truncation=True, return_tensors="pt")["input_ids"] for text in TEXTS]
    assert {int(row[0, -1]) for row in ids} == {0}
    with torch.inference_mode():
        alone = [model(input_ids=row)[0][0, -1].numpy() for row in ids]
    assert np.abs(together - np.array(alone)).max() < CLOSE


def test_a_text_without_tokens_fails_its_job(tmp_path: Path) -> None:
    adapter = load(add_modules(tiny_decoders.qwen2(tmp_path / "model")))

    [refused, fine] = adapter.encode(jobs_of(["", "a"]))

    assert isinstance(refused, JobError)
    assert refused.code == "empty_text"
    assert isinstance(fine, list)


def test_a_chat_model_without_files_of_sentence_transformers_is_refused(tmp_path: Path) -> None:
    folder = tiny_decoders.qwen2(tmp_path / "model")

    with pytest.raises(ModelError, match="has a chat template"):
        load(folder)

    (folder / "chat_template.jinja").unlink()
    assert isinstance(load(folder).encode(jobs_of(["a"]))[0], list)


def test_layers_follow_the_vectors_that_a_projection_made_smaller(tmp_path: Path) -> None:
    folder = tiny_decoders.opt(tmp_path / "model", word_embed_proj_dim=16)
    add_modules(folder, {"word_embedding_dimension": 16}, [("Dense", {"in_features": 16, "out_features": 8})])

    [output] = embed(load(folder), jobs_of(["love"]))

    assert vectors.dimensions(output) == 8
    files = ModelFiles.find(pipeline_for(folder, "embeddings"))
    assert files is not None
    assert files.token_size == 16


def test_a_module_that_is_not_known_is_refused_at_load(tmp_path: Path) -> None:
    folder = add_modules(tiny_encoders.masked_lm(tmp_path / "model", "bert"), steps=[("LSTM", {})])

    with pytest.raises(ModelError, match="has the module LSTM"):
        load(folder)


def test_a_model_with_a_decoder_that_can_not_be_left_out_is_refused(tmp_path: Path) -> None:
    folder = seq2seq_models.marian(tmp_path / "model")

    with pytest.raises(ModelError, match="the encoder of a marian model can't be loaded alone"):
        load(folder)


def test_the_head_moves_with_the_model(folder: Path) -> None:
    loaded = runtime.load(pipeline_for(folder, "embeddings"), "cpu", threads=1)
    jobs = jobs_of(TEXTS)
    before = embed(loaded.adapter, jobs)

    loaded.offload()
    loaded.restore()

    assert embed(loaded.adapter, jobs) == before
    parts = {name for name, _ in loaded.model.named_parameters()}
    assert {"embedding_head.steps.0.weight", "embedding_head.steps.0.bias"} <= parts


@pytest.mark.parametrize(("fields", "tolerance"), [({"dtype": "bfloat16"}, 3e-2), ({"quantization": "int8"}, 1e-1)])
def test_smaller_weights_give_nearly_the_same_directions(folder: Path, fields: Any, tolerance: float) -> None:
    exact = to_array(embed(load(folder), jobs_of(TEXTS)))

    rough = to_array(embed(load(folder, **fields), jobs_of(TEXTS)))

    assert (1 - (exact * rough).sum(axis=1)).max() < tolerance


def _window_reference(folder: Path, adapter: Any, text: str, prompt: str, aggregation: str) -> Any:
    """The vector that transformers and torch give for each window alone, put together by hand."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    prompt_ids, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, prompt + text))
    text_ids = ids[len(prompt_ids) :]
    room = LIMIT - 2 - len(prompt_ids)
    starts = range(0, max(1, len(text_ids) - STRIDE), room - STRIDE) if len(text_ids) > room else [0]
    windows = [text_ids[start : start + room] for start in starts]
    pooled = []
    with torch.inference_mode():
        for window in windows:
            row = torch.tensor([[tokenizer.cls_token_id, *prompt_ids, *window, tokenizer.sep_token_id]])
            states = model(input_ids=row)[0][0]
            pooled.append(states[len(prompt_ids) + 1 if prompt_ids else 0 :].mean(dim=0))
        stacked, lengths = torch.stack(pooled), torch.tensor([float(len(window)) for window in windows])
        joined = {
            "mean": lambda: stacked.mean(dim=0),
            "max": lambda: stacked.amax(dim=0),
            "first": lambda: stacked[0],
            "weighted": lambda: (stacked * lengths[:, None]).sum(dim=0) / lengths.sum(),
        }[aggregation]()
        return adapter._head(joined[None], None, None)[0].numpy()
