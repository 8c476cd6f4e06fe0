"""The files of sentence-transformers are read as that library reads them, and refused by name where we lack a part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.embedding import sentence_files
from models.embedding.recipe import Recipe
from models.embedding.sentence_files import Pooling, SentenceFiles
from models.errors import ModelError
from tests.factories.sentence_models import add_modules, module_list, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"hidden_size": 32})
    return tmp_path


def test_a_folder_without_modules_says_nothing(folder: Path) -> None:
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})

    assert SentenceFiles.read(folder) is None


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"architectures": ["BertModel"]}, ("mean",)),
        ({"architectures": ["Qwen3ForCausalLM"]}, ("last",)),
        ({"architectures": ["Qwen3ForCausalLM"], "is_causal": False}, ("mean",)),
        ({}, ("mean",)),
    ],
)
def test_a_plain_decoder_is_pooled_by_its_last_token(config: dict[str, Any], modes: tuple[str, ...]) -> None:
    assert SentenceFiles.for_plain_model(config).pooling == Pooling(modes)  # type: ignore[arg-type]


def test_all_files_together(folder: Path) -> None:
    add_modules(folder, {"pooling_mode_cls_token": True, "include_prompt": False}, [("Dropout", {}), ("Normalize", {})])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": True})
    prompts = {"query": "query: ", "document": None}
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": "query", "truncate_dim": 16, "similarity_fn_name": "cosine"},
    )

    files = SentenceFiles.read(folder)

    assert files is not None
    assert files.pooling == Pooling(("cls",), include_prompt=False, token_size=32)
    assert [step.kind for step in files.steps] == ["normalize"]
    assert files.prompts == {"query": "query: ", "document": ""}
    assert (files.default_prompt_name, files.dimensions, files.max_length) == ("query", 16, 128)
    assert files.lowercases


@pytest.mark.parametrize(("value", "included"), [(0, False), (None, False), (False, False), (True, True), (1, True)])
def test_include_prompt_is_what_python_takes_for_true(folder: Path, value: object, included: bool) -> None:
    add_modules(folder, {"pooling_mode": "mean", "include_prompt": value})

    files = SentenceFiles.read(folder)

    assert files is not None
    assert files.pooling.include_prompt is included


def test_a_default_without_a_prompt_is_an_empty_one(folder: Path) -> None:
    add_modules(folder)
    write_json(folder / "config_sentence_transformers.json", {"default_prompt_name": "query"})

    files = SentenceFiles.read(folder)

    assert files is not None
    assert Recipe.from_parameters({}, files, 32).prompt == ""


def write_types(*types: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        modules = [{"idx": i, "name": str(i), "path": f"{i}_m" if i else "", "type": t} for i, t in enumerate(types)]
        write_json(folder / "modules.json", modules)
        write_json(folder / "1_m" / "config.json", {"word_embedding_dimension": 32})

    return write


def write_file(name: str, content: object) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / name, content)


def set_transformer(**settings: object) -> Callable[[Path], None]:
    return write_file("sentence_bert_config.json", settings)


ST = "sentence_transformers.models."
OUTPUT = {"method": "forward", "method_output_name": "last_hidden_state"}
DENSE = {"in_features": 32, "out_features": 8}


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (write_types(f"{ST}Transformer", "custom_st.Pooling"), "asks to run its own code"),
        (write_types(f"{ST}StaticEmbedding"), "begins with StaticEmbedding, and only a Transformer"),
        (write_types(f"{ST}Transformer"), "has no Pooling"),
        (write_types(f"{ST}Transformer", f"{ST}WeightedLayerPooling"), "has the module WeightedLayerPooling after"),
        (write_types(f"{ST}Transformer", f"{ST}Pooling", f"{ST}LSTM"), "has the module LSTM, and only Transformer, P"),
        (write_types(*[f"{ST}Transformer"] * 33), "lists 33 modules"),
        (write_types(f"{ST}Transformer", None), "asks to run its own code"),
        (write_file("modules.json", {}), "is not a list of modules"),
        (write_file("modules.json", []), "begins with nothing"),
        (write_file("modules.json", module_list([("Transformer", "../other")])), "outside of its folder"),
        (write_file("modules.json", module_list([("Transformer", "/etc")])), "outside of its folder"),
        (write_file("1_Pooling/config.json", {"pooling_mode": "attention"}), "asks for the pooling 'attention'"),
        (write_file("1_Pooling/config.json", []), "is missing or no object"),
        (write_file("1_Pooling/config.json", {"word_embedding_dimension": "x"}), "word_embedding_dimension is 'x'"),
        (write_file("2_Dense/config.json", {**DENSE, "module_input_name": "token_embeddings"}), "vectors of tokens"),
        (write_file("2_Dense/config.json", {"in_features": 32}), "2_Dense/config.json has no out_features"),
        (write_file("sentence_bert_config.json", {"max_seq_length": -1}), "max_seq_length is '-1'"),
        (write_file("sentence_bert_config.json", {"modality_config": {"message": {}, "text": {}}}), "plain text"),
        (write_file("sentence_bert_config.json", {"modality_config": {"image": {}}}), "plain text is taken"),
        (write_file("sentence_bert_config.json", {"transformer_task": "fill-mask"}), "is made for 'fill-mask'"),
        (set_transformer(modality_config={"text": {**OUTPUT, "method_output_name": ["logits"]}}), "another output"),
        (set_transformer(modality_config={"text": {**OUTPUT, "method": "get_text_features"}}), "another output"),
        (set_transformer(modality_config={"text": []}), "another output than last_hidden_state"),
        (set_transformer(config_args={"num_hidden_layers": 1}), "set num_hidden_layers in config_args"),
        (set_transformer(config_kwargs={"dtype": "float32", "num_hidden_layers": 1}), "set num_hidden_layers in"),
        (set_transformer(tokenizer_args={"do_lower_case": True}), "set do_lower_case in tokenizer_args"),
        (set_transformer(processor_kwargs={"model_max_length": 9}), "set model_max_length in processor_kwargs"),
        (set_transformer(model_args=["num_hidden_layers"]), "set model_args"),
        (set_transformer(processing_kwargs={"text": {"truncation": False}}), "set text in processing_kwargs"),
        (write_file("sentence_bert_config.json", {"query_expansion": {"length": 32}}), "query_expansion"),
        (write_file("config_sentence_transformers.json", {"prompts": ["query: "]}), "no texts by name"),
        (write_file("config_sentence_transformers.json", {"prompts": {"q": "\ud83d"}}), "half a surrogate pair"),
        (write_file("config_sentence_transformers.json", {"default_prompt_name": 3}), "default_prompt_name is '3'"),
        (write_file("config_sentence_transformers.json", {"default_prompt_name": "nope"}), "has no prompt of the name"),
        (write_file("config_sentence_transformers.json", {"truncate_dim": True}), "truncate_dim is 'True'"),
        (lambda folder: (folder / "modules.json").write_text("["), "modules.json can't be read"),
        (lambda folder: (folder / "modules.json").write_text("[" * 100_000), "modules.json can't be read"),
        (lambda folder: (folder / "modules.json").write_bytes(b" " * (5 << 20)), "more than 4 MiB"),
        (lambda folder: (folder / "1_Pooling" / "config.json").unlink(), "is missing"),
    ],
)
def test_what_can_not_be_computed_is_refused(folder: Path, damage: Callable[[Path], None], problem: str) -> None:
    add_modules(folder, steps=[("Dense", DENSE)])
    damage(folder)

    with pytest.raises(ModelError) as refusal:
        SentenceFiles.read(folder)

    assert problem in str(refusal.value)


def test_options_that_leave_the_numbers_as_they_are_are_taken(folder: Path) -> None:
    add_modules(folder)
    model_kwargs = {"dtype": "bfloat16", "attn_implementation": "sdpa", "add_pooling_layer": False}
    settings = {"model_kwargs": model_kwargs, "config_kwargs": {}, "processing_kwargs": {"text": {}}}
    write_json(folder / "sentence_bert_config.json", {**settings, "modality_config": {"text": OUTPUT}})

    assert SentenceFiles.read(folder) is not None


@pytest.mark.parametrize("others", [[("Pooling", "1_Pooling")], []])
@pytest.mark.parametrize("config", [None, {"__version__": "1.2.0"}, {"hidden_size": 16}])
def test_a_transformer_saved_apart_is_found(folder: Path, config: object, others: list[tuple[str, str]]) -> None:
    (folder / "config.json").unlink()
    if config is not None:
        write_json(folder / "config.json", config)
    write_json(folder / "0_Transformer" / "config.json", {"hidden_size": 32})
    write_json(folder / "modules.json", module_list([("Transformer", "0_Transformer"), *others]))

    assert sentence_files.transformer_folder(folder) == folder / "0_Transformer"


def test_a_module_without_a_model_leaves_the_folder_itself(folder: Path) -> None:
    write_json(folder / "modules.json", module_list([("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]))

    assert sentence_files.transformer_folder(folder) == folder


@pytest.mark.parametrize("content", ["[", "[]", '{"a": 1}', None])
def test_without_a_list_of_modules_it_lies_in_the_folder_itself(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "modules.json").write_text(content)

    assert sentence_files.transformer_folder(tmp_path) == tmp_path
