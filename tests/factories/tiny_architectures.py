"""Tiny random models of many architectures: length-dependent, stateful, sensitive to padding, and others.

Lengths at which behaviour changes (windows, blocks, training lengths) are a few tokens, so that texts of one line
exceed them.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from models.pipelines.pipeline import Pipeline
from tests.factories.tiny_decoders import VOCABULARY, byte_level_tokenizer
from tests.factories.tiny_encoders import NER_LABELS, NLI_LABELS
from tests.factories.tiny_models import BERT_SIZES, WIDE_WEIGHTS, WORDPIECE_VOCABULARY, save, wordpiece_tokenizer

MAX_POSITIONS = 256
OMIT: Any = object()  # a common setting that this kind of config rejects
ORIGINAL_MAX_POSITIONS = 24  # tokens, beyond which length-dependent rotary scaling applies

AUTO_MODEL_CLASSES = {
    "feature-extraction": AutoModel,
    "text-generation": AutoModelForCausalLM,
    "sentiment-analysis": AutoModelForSequenceClassification,
    "zero-shot-classification": AutoModelForSequenceClassification,
    "text-ranking": AutoModelForSequenceClassification,
    "ner": AutoModelForTokenClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "fill-mask": AutoModelForMaskedLM,
    "summarization": AutoModelForSeq2SeqLM,
    "translation": AutoModelForSeq2SeqLM,
}
TASK_LABELS: dict[str, tuple[str, ...]] = {
    "zero-shot-classification": NLI_LABELS,
    "sentiment-analysis": ("bad", "good"),
    "ner": NER_LABELS,
    "text-ranking": ("score",),
}

_HEAD_SIZE = BERT_SIZES["hidden_size"] // BERT_SIZES["num_attention_heads"]
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": MAX_POSITIONS}
_MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
_MAMBA2 = {**_MAMBA, "num_heads": 4, "head_dim": 16, "n_groups": 1, "expand": 2, "chunk_size": 8}
_MOE = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
_LINEAR_ATTENTION = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_XLNET = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "max_position_embeddings": OMIT}
_HYBRID_LAYERS = {"layer_types": ["linear_attention", "full_attention"]}


def _rope_config(rope_type: str, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 10_000.0, **fields}}


def _longrope_config(**fields: Any) -> dict[str, Any]:
    half = _HEAD_SIZE // 2
    factors: dict[str, Any] = {"short_factor": [1.0] * half, "long_factor": [3.0 + place for place in range(half)]}
    return _rope_config(
        "longrope", original_max_position_embeddings=ORIGINAL_MAX_POSITIONS, factor=4.0, **factors, **fields
    )


# name → the kind of its config, and its settings beside the usual sizes
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3-longrope": (
        "phi3",
        {**_longrope_config(), "original_max_position_embeddings": ORIGINAL_MAX_POSITIONS, "pad_token_id": 1},
    ),
    "llama-longrope": ("llama", _longrope_config()),
    "llama-dynamic": (
        "llama",
        {**_rope_config("dynamic", factor=2.0), "max_position_embeddings": ORIGINAL_MAX_POSITIONS},
    ),
    "llama-yarn": ("llama", _rope_config("yarn", factor=4.0, original_max_position_embeddings=ORIGINAL_MAX_POSITIONS)),
    "llama-linear": ("llama", _rope_config("linear", factor=4.0)),
    "llama-llama3": (
        "llama",
        _rope_config(
            "llama3",
            factor=4.0,
            original_max_position_embeddings=ORIGINAL_MAX_POSITIONS,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        ),
    ),
    "gpt2": ("gpt2", _GPT),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.5, "pad_token_id": 1}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 2}),
    "falcon": ("falcon", {"alibi": False, "new_decoder_architecture": False}),
    "falcon-alibi": ("falcon", {"alibi": True, "new_decoder_architecture": False}),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": MAX_POSITIONS}),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neo": (
        "gpt_neo",
        {"num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    ),
    "gptj": ("gptj", {**_GPT, "rotary_dim": 8}),
    "codegen": ("codegen", {**_GPT, "num_attention_heads": 4, "n_head": 4, "rotary_dim": 8}),
    "gpt_bigcode": ("gpt_bigcode", _GPT),
    "openai-gpt": ("openai-gpt", _GPT),
    "ctrl": ("ctrl", {**_GPT, "dff": 64}),
    "xglm": (
        "xglm",
        {"d_model": 32, "num_layers": 2, "attention_heads": 2, "ffn_dim": 64, "init_std": 0.5, "pad_token_id": 1},
    ),
    "biogpt": ("biogpt", {"pad_token_id": 1}),
    "mistral": ("mistral", {"sliding_window": 8}),
    "gemma": ("gemma", {"head_dim": 16, "pad_token_id": 1}),
    "gemma2": ("gemma2", {"sliding_window": 8, "head_dim": 16, "pad_token_id": 1}),
    "gemma3": (
        "gemma3_text",
        {
            "sliding_window": 8,
            "head_dim": 16,
            "pad_token_id": 1,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen2-moe": ("qwen2_moe", _MOE),
    "qwen3-moe": ("qwen3_moe", {**_MOE, "head_dim": 16}),
    "mixtral": ("mixtral", {**_MOE, "sliding_window": None}),
    "olmoe": ("olmoe", _MOE),
    "gpt-oss": (
        "gpt_oss",
        {
            **_MOE,
            "head_dim": 16,
            "sliding_window": 8,
            "pad_token_id": 1,
            **_rope_config("default"),
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "llama4": (
        "llama4_text",
        {
            **_MOE,
            "head_dim": 16,
            "attention_chunk_size": 8,
            "intermediate_size_mlp": 64,
            "pad_token_id": 1,
            "layer_types": ["chunked_attention", "full_attention"],
        },
    ),
    "qwen3-next": ("qwen3_next", {**_MOE, **_LINEAR_ATTENTION, **_HYBRID_LAYERS, "head_dim": 16}),
    "qwen3.5": ("qwen3_5_text", {**_LINEAR_ATTENTION, **_HYBRID_LAYERS, "head_dim": 16}),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"], "pad_token_id": 1}),
    "olmo-hybrid": ("olmo_hybrid", {**_LINEAR_ATTENTION, **_HYBRID_LAYERS, "pad_token_id": 1}),
    "minimax": ("minimax", {**_MOE, **_HYBRID_LAYERS, "block_size": 8, "head_dim": 16, "sliding_window": None}),
    "mamba": ("mamba", {**_MAMBA, "time_step_rank": 4}),
    "falcon-mamba": ("falcon_mamba", {**_MAMBA, "time_step_rank": 4}),
    "mamba2": ("mamba2", _MAMBA2),
    "jamba": (
        "jamba",
        {
            **_MOE,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "pad_token_id": 1,
        },
    ),
    "bamba": (
        "bamba",
        {
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "attn_layer_indices": [1],
            "mamba_chunk_size": 8,
            "pad_token_id": 1,
        },
    ),
    "falcon-h1": (
        "falcon_h1",
        {
            "mamba_d_ssm": 64,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "mamba_chunk_size": 8,
            "head_dim": 16,
            "pad_token_id": 1,
        },
    ),
    "zamba2": (
        "zamba2",
        {
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "num_key_value_heads": 2,
            "pad_token_id": 1,
            "num_mem_blocks": 1,
            "use_mem_rope": True,
            "hybrid_layer_ids": [1],
            "layers_block_type": ["mamba", "hybrid"],
        },
    ),
    "granite-hybrid": (
        "granitemoehybrid",
        {
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "mamba_chunk_size": 8,
            "layer_types": ["mamba", "attention"],
            "shared_intermediate_size": 32,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "pad_token_id": 1,
        },
    ),
    "nemotron-h": (
        "nemotron_h",
        {
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "head_dim": 16,
            "layers_block_type": ["mamba", "attention"],
            "pad_token_id": 1,
        },
    ),
    "recurrent-gemma": (
        "recurrent_gemma",
        {
            "lru_width": 32,
            "attention_window_size": 8,
            "pad_token_id": 1,
            "block_types": ["recurrent", "attention"],
            "head_dim": 16,
        },
    ),
    "rwkv": ("rwkv", {"context_length": MAX_POSITIONS, "attention_hidden_size": 32}),
    "xlstm": (
        "xlstm",
        {
            "num_heads": 2,
            "num_blocks": 2,
            "chunk_size": 8,
            "qk_dim_factor": 1.0,
            "v_dim_factor": 1.0,
            "return_last_states": True,
            "mode": "inference",
        },
    ),
    "granite": ("granite", {"pad_token_id": 1}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {"pad_token_id": 1}),
    "cohere": ("cohere", {"pad_token_id": 1}),
    "cohere2": (
        "cohere2",
        {"sliding_window": 8, "pad_token_id": 1, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "stablelm": ("stablelm", {}),
    "phi": ("phi", {"num_key_value_heads": 2}),
    "starcoder2": ("starcoder2", {"sliding_window": 8}),
    "nemotron": ("nemotron", {"pad_token_id": 1}),
    "persimmon": ("persimmon", {}),
    "smollm3": ("smollm3", {"pad_token_id": 1}),
    "modernbert-decoder": (
        "modernbert-decoder",
        {
            "local_attention": 8,
            "pad_token_id": 1,
            "cls_token_id": 0,
            "sep_token_id": 0,
            "global_attn_every_n_layers": 2,
        },
    ),
    "xlnet": ("xlnet", {**_XLNET, "pad_token_id": 1}),
    "reformer": (
        "reformer",
        {
            "attention_head_size": 16,
            "axial_pos_embds": True,
            "axial_pos_embds_dim": [16, 16],
            "axial_pos_shape": [16, 16],
            "feed_forward_size": 64,
            "attn_layers": ["local", "lsh"],
            "is_decoder": True,
            "local_attn_chunk_length": 8,
            "lsh_attn_chunk_length": 8,
            "num_buckets": 4,
            "pad_token_id": 1,
            "num_hashes": 1,
        },
    ),
    "big_bird": ("big_bird", {"is_decoder": True, "block_size": 4, "num_random_blocks": 1, "pad_token_id": 1}),
    "bert-decoder": ("bert", {"is_decoder": True, "pad_token_id": 1}),
    "diffllama": ("diffllama", {"num_key_value_heads": 2}),
    "deepseek-v3": (
        "deepseek_v3",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 2,
        },
    ),
    "phimoe": (
        "phimoe",
        {
            **_longrope_config(short_mscale=1.0, long_mscale=1.2),
            **_MOE,
            "original_max_position_embeddings": ORIGINAL_MAX_POSITIONS,
            "sliding_window": None,
            "router_jitter_noise": 0.1,
            "input_jitter_noise": 0.1,
        },
    ),
}

_SEQ2SEQ = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "init_std": 0.5,
    "decoder_start_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "forced_eos_token_id": None,
    "max_position_embeddings": MAX_POSITIONS,
}
_T5 = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "initializer_factor": 3.0,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 3,
}
SEQ2SEQ_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", _T5),
    "mt5": ("mt5", _T5),
    "umt5": ("umt5", _T5),
    "longt5-local": ("longt5", {**_T5, "local_radius": 4, "encoder_attention_type": "local"}),
    "longt5-tglobal": (
        "longt5",
        {**_T5, "local_radius": 4, "global_block_size": 4, "encoder_attention_type": "transient-global"},
    ),
    "switch": (
        "switch_transformers",
        {
            **_T5,
            "num_experts": 4,
            "expert_capacity": 3,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "router_jitter_noise": 0.1,
        },
    ),
    "bart": ("bart", _SEQ2SEQ),
    "mbart": ("mbart", _SEQ2SEQ),
    "pegasus": ("pegasus", _SEQ2SEQ),
    "marian": ("marian", _SEQ2SEQ),
    "blenderbot": ("blenderbot", _SEQ2SEQ),
    "m2m": ("m2m_100", _SEQ2SEQ),
    "blenderbot-small": ("blenderbot-small", _SEQ2SEQ),
    "plbart": ("plbart", _SEQ2SEQ),
    "mvp": ("mvp", _SEQ2SEQ),
    "pegasus-x": ("pegasus_x", {**_SEQ2SEQ, "block_size": 8, "num_global_tokens": 4, "stagger_local_blocks": True}),
    "bigbird-pegasus": ("bigbird_pegasus", {**_SEQ2SEQ, "block_size": 4, "num_random_blocks": 1}),
    "led": (
        "led",
        {
            **_SEQ2SEQ,
            "attention_window": 8,
            "max_encoder_position_embeddings": MAX_POSITIONS,
            "max_decoder_position_embeddings": MAX_POSITIONS,
        },
    ),
    "nllb-moe": (
        "nllb-moe",
        {
            **_SEQ2SEQ,
            "num_experts": 4,
            "expert_capacity": 3,
            "encoder_sparse_step": 2,
            "decoder_sparse_step": 2,
            "moe_eval_capacity_token_fraction": 0.5,
        },
    ),
    "prophetnet": (
        "prophetnet",
        {
            "num_hidden_layers": OMIT,
            "num_attention_heads": OMIT,
            "hidden_size": 32,
            "encoder_ffn_dim": 64,
            "num_encoder_layers": 2,
            "num_encoder_attention_heads": 2,
            "decoder_ffn_dim": 64,
            "num_decoder_layers": 2,
            "num_decoder_attention_heads": 2,
            "init_std": 0.5,
            "ngram": 2,
            "num_buckets": 8,
            "relative_max_distance": 16,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "decoder_start_token_id": 2,
        },
    ),
    "fsmt": (
        "fsmt",
        {
            **_SEQ2SEQ,
            "langs": ["en", "de"],
            "src_vocab_size": len(WORDPIECE_VOCABULARY),
            "tgt_vocab_size": len(WORDPIECE_VOCABULARY),
        },
    ),
}

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {}),
    "electra": ("electra", {"embedding_size": 16}),
    "albert": ("albert", {"embedding_size": 16}),
    "distilbert": ("distilbert", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "deberta": ("deberta", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "deberta-v2": (
        "deberta-v2",
        {
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "conv_kernel_size": 3,
        },
    ),
    "longformer": ("longformer", {"attention_window": [8, 8]}),
    "big_bird": ("big_bird", {"block_size": 4, "num_random_blocks": 1}),
    "nystromformer": ("nystromformer", {"num_landmarks": 8, "segment_means_seq_len": 64}),
    "yoso": ("yoso", {"use_expectation": True}),
    "yoso-hashing": ("yoso", {"use_expectation": False}),
    "funnel": (
        "funnel",
        {"num_hidden_layers": OMIT, "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]},
    ),
    "canine": (
        "canine",
        {
            "downsampling_rate": 4,
            "upsampling_kernel_size": 4,
            "local_transformer_stride": 8,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "convbert": ("convbert", {"embedding_size": 32}),
    "fnet": ("fnet", {}),
    "ibert": ("ibert", {}),
    "ibert-quant": ("ibert", {"quant_mode": True}),
    "squeezebert": ("squeezebert", {"embedding_size": 32, "q_groups": 1, "k_groups": 1, "v_groups": 1}),
    "mobilebert": ("mobilebert", {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16}),
    "modernbert": (
        "modernbert",
        {
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
    "eurobert": ("eurobert", {"bos_token_id": 2, "eos_token_id": 3}),
    "nomic_bert": ("nomic_bert", {}),
    "esm": ("esm", {"mask_token_id": 4, "token_dropout": True}),
    "luke": ("luke", {"entity_vocab_size": 10, "entity_emb_size": 16}),
    "mra": ("mra", {"block_per_row": 2}),
    "megatron": ("megatron-bert", {}),
    "mpnet": ("mpnet", {}),
    "rembert": ("rembert", {}),
    "roformer": ("roformer", {}),
    "splinter": ("splinter", {}),
    "xmod": ("xmod", {"languages": ["en_XX"], "default_language": "en_XX"}),
    "data2vec": ("data2vec-text", {}),
    "ernie": ("ernie", {}),
    "camembert": ("camembert", {}),
    "perceiver": (
        "perceiver",
        {
            "num_latents": 8,
            "d_latents": 32,
            "d_model": 32,
            "num_blocks": 1,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 2,
            "num_cross_attention_heads": 2,
        },
    ),
    "reformer": (
        "reformer",
        {
            "attention_head_size": 16,
            "axial_pos_embds": True,
            "axial_pos_embds_dim": [16, 16],
            "axial_pos_shape": [16, 16],
            "feed_forward_size": 64,
            "attn_layers": ["local", "lsh"],
            "is_decoder": False,
            "local_attn_chunk_length": 8,
            "lsh_attn_chunk_length": 8,
            "num_buckets": 4,
            "num_hashes": 1,
        },
    ),
    "xlnet": ("xlnet", _XLNET),
    "flaubert": ("flaubert", {"emb_dim": 32, "n_layers": 2, "n_heads": 2}),
    "xlm": ("xlm", {"emb_dim": 32, "n_layers": 2, "n_heads": 2}),
    "gpt2": ("gpt2", _GPT),
    "llama": ("llama", {}),
    "opt": ("opt", DECODERS["opt"][1]),
    "llama-dynamic": DECODERS["llama-dynamic"],
    "phi3-longrope": DECODERS["phi3-longrope"],
    "mistral": DECODERS["mistral"],
    "gemma3": DECODERS["gemma3"],
    "qwen2": DECODERS["qwen2"],
    "jamba": DECODERS["jamba"],
    "qwen3-next": DECODERS["qwen3-next"],
    "bart": ("bart", _SEQ2SEQ),
    "led": SEQ2SEQ_MODELS["led"],
    "t5": ("t5", _T5),
    "bigbird-pegasus": SEQ2SEQ_MODELS["bigbird-pegasus"],
    "ctrl": DECODERS["ctrl"],
    "openai-gpt": DECODERS["openai-gpt"],
    "gptj": DECODERS["gptj"],
    "bloom": DECODERS["bloom"],
}


def save_random_model(folder: Path, task: str, name: str, **fields: Any) -> Path:
    """Save a model for the task, by its name in the tables above."""
    kind, told = architectures_for(task)[name]
    tokenizer = (
        byte_level_tokenizer(max_length=MAX_POSITIONS)
        if task == "text-generation"
        else wordpiece_tokenizer(MAX_POSITIONS)
    )
    labels = TASK_LABELS.get(task)
    named = (
        {}
        if labels is None
        else {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    )
    torch.manual_seed(0)
    settings = {**_common_config(task), **told, **named, **fields}
    config = AutoConfig.for_model(kind, **{name: value for name, value in settings.items() if value is not OMIT})
    model = AUTO_MODEL_CLASSES[task].from_config(config)
    return save(folder, widen_weights(model), tokenizer)


def widen_weights(model: Any) -> Any:
    """Widen a model's weights so that different texts get clearly different scores."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 1.0 if "embed" in name else weight.shape[-1] ** -0.5)
    return model


def architectures_for(task: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the architectures for a task."""
    return {"text-generation": DECODERS, "summarization": SEQ2SEQ_MODELS, "translation": SEQ2SEQ_MODELS}.get(
        task, ENCODERS
    )


def pipeline_for(folder: Path, task: str, **fields: Any) -> Pipeline:
    """Return a catalogue entry for a model in a folder."""
    return Pipeline(**{"name": "made", "task": task, "model": str(folder), **fields})


def _common_config(task: str) -> dict[str, Any]:
    if task == "text-generation":
        words = {"vocab_size": len(VOCABULARY), "bos_token_id": 0, "eos_token_id": 0}
    else:
        words = {"vocab_size": len(WORDPIECE_VOCABULARY), "pad_token_id": 0}
    return {**words, **WIDE_WEIGHTS, **BERT_SIZES, "num_key_value_heads": 1, "max_position_embeddings": MAX_POSITIONS}
