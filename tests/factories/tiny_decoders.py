"""Tiny random decoder models: real architectures, a real tokenizer, no Hub."""

from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    JevConfig,
    JevForDecision,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    XLNetConfig,
    XLNetLMHeadModel,
)

from models.pipelines.catalogue import Pipeline
from tests.factories.tiny_models import BERT_SIZES, WIDE_WEIGHTS, _random_model, save

MAX_POSITIONS = 128
MERGED_TOKENS = ("Ġthe", "ing", "ed", "Ġa", "lo", "ve", "love")
# No database stores a NUL character, spelled Ā here; a random model would generate it.
BYTE_TOKENS = sorted(set(ByteLevel.alphabet()) - {"Ā"})
VOCABULARY = ["<|end|>", "<|pad|>", "<|user|>", "<|bot|>", *BYTE_TOKENS, *MERGED_TOKENS]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}{{ raise_exception('this model has no tools') }}{% endif %}"
    "{{ '<|bot|>' if message.role == 'assistant' else '<|user|>' }}{{ message.content }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"
)


def pipeline_for(folder: Path, **fields: Any) -> Pipeline:
    """Return a catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": "text-generation", "model": str(folder), **fields})


def gpt2(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """GPT-2: learned positions and no padding token."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": MAX_POSITIONS, "bos_token_id": 0}
    made = GPT2Config(**{**_common_config(), **sizes, **config})
    return _save_random(folder, GPT2LMHeadModel, made, byte_level_tokenizer(pad=False), generation)


def llama(folder: Path, *, generation: dict[str, Any] | None = None, tokenizer: Any = None, **config: Any) -> Path:
    """Llama: rotary positions."""
    return _save_random(
        folder, LlamaForCausalLM, LlamaConfig(**_rotary_config(config)), tokenizer or byte_level_tokenizer(), generation
    )


def qwen2(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """Qwen2: rotary positions, biases, a tied head."""
    tied = _rotary_config({"tie_word_embeddings": True, **config})
    return _save_random(folder, Qwen2ForCausalLM, Qwen2Config(**tied), byte_level_tokenizer(), generation)


def jev(folder: Path, **config: Any) -> Path:
    """JEV: a head for decisions over Qwen2."""
    text = Qwen2Config(**_rotary_config(config)).to_dict() | {"model_type": "qwen2"}
    made = JevConfig(text_config=text, hidden_size=BERT_SIZES["hidden_size"], initializer_range=0.5)
    return save(folder, _random_model(JevForDecision, made), byte_level_tokenizer(max_length=None))


def mistral(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """Mistral: each token attends to the 16 before it only."""
    windowed = _rotary_config({"sliding_window": 16, **config})
    return _save_random(folder, MistralForCausalLM, MistralConfig(**windowed), byte_level_tokenizer(), generation)


def gpt_neox(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """GPT-NeoX: partly rotary positions."""
    made = GPTNeoXConfig(**{**_common_config(), **BERT_SIZES, "max_position_embeddings": MAX_POSITIONS, **config})
    return _save_random(folder, GPTNeoXForCausalLM, made, byte_level_tokenizer(), generation)


def opt(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """OPT: learned positions that start at 2."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64, "init_std": 0.5}
    places = {"max_position_embeddings": MAX_POSITIONS, "word_embed_proj_dim": 32, "pad_token_id": 1}
    made = OPTConfig(**{**_common_config(), **sizes, **places, **config})
    return _save_random(folder, OPTForCausalLM, made, byte_level_tokenizer(), generation)


def bloom(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """BLOOM: no position ids."""
    made = BloomConfig(**{**_common_config(), "hidden_size": 32, "n_layer": 2, "n_head": 2, **config})
    return _save_random(folder, BloomForCausalLM, made, byte_level_tokenizer(), generation)


def xlnet(folder: Path, *, generation: dict[str, Any] | None = None, **config: Any) -> Path:
    """XLNet: a long text precedes every prompt."""
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
    made = XLNetConfig(**{**_common_config(), **sizes, "pad_token_id": 1, **config})
    return _save_random(folder, XLNetLMHeadModel, made, byte_level_tokenizer(max_length=None), generation)


def byte_level_tokenizer(
    *, pad: bool = True, chat: bool = True, max_length: int | None = MAX_POSITIONS, **fields: Any
) -> Any:
    """Return GPT-2's kind of tokenizer: a token for each byte and a few words; `<|end|>` begins and ends."""
    merges = [("l", "o"), ("v", "e"), ("lo", "ve"), ("e", "d"), ("Ġ", "a")]
    known = {piece: number for number, piece in enumerate(VOCABULARY)}
    special = {"bos_token": "<|end|>", "eos_token": "<|end|>", "unk_token": "<|end|>"}
    if pad:
        special["pad_token"] = "<|pad|>"
    if max_length is not None:
        special["model_max_length"] = max_length  # type: ignore[assignment]
    made = GPT2Tokenizer(vocab=known, merges=merges, extra_special_tokens=["<|user|>", "<|bot|>"], **special, **fields)
    if chat:
        made.chat_template = CHAT_TEMPLATE
    return made


def _common_config() -> dict[str, Any]:
    return {"vocab_size": len(VOCABULARY), **WIDE_WEIGHTS, "bos_token_id": 0, "eos_token_id": 0}


def _rotary_config(config: dict[str, Any]) -> dict[str, Any]:
    heads = {"num_key_value_heads": 1, "max_position_embeddings": MAX_POSITIONS}
    return {**_common_config(), **BERT_SIZES, **heads, **config}


def _save_random(
    folder: Path, architecture: type[PreTrainedModel], config: Any, tokenizer: Any, generation: dict[str, Any] | None
) -> Path:
    model = _random_model(architecture, config)
    for name, value in (generation or {}).items():
        setattr(model.generation_config, name, value)
    return save(folder, model, tokenizer)
