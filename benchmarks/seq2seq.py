"""Translation by beam search with skewed lengths: finished rows leave here, but wait in a loop of `generate`."""

import time
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

import torch

from benchmarks import THREADS, checkpoints, corpus, inference_loops, options, report, synthetic_translator
from benchmarks.comparison import Candidate, run_interleaved

BARE_LOOP_NAME, GENERATE_PREFIX = "our bare loop", "model.generate, batches of "
BATCH_SIZES, PEER_BATCH_SIZE = (1, 8, 32), 8


def main() -> None:
    """Print the throughput against plain loops; transformers 5 has no pipeline for this task."""
    asked = options.parse_options(__doc__, items=32, rounds=2)
    folder = synthetic_translator.translator_folder()
    tokenizer = checkpoints.load_tokenizer(folder)
    texts = corpus.random_texts(tokenizer, asked.items, "even")
    torch.set_num_threads(THREADS)
    loaded = inference_loops.load_runtime("translation", folder)
    model = loaded.adapter._generator._model  # type: ignore[attr-defined]
    plain = [
        Candidate(f"{GENERATE_PREFIX}{size}", _generate_loop(model, tokenizer, texts, size)) for size in BATCH_SIZES
    ]
    ours = inference_loops.bare_loop(
        loaded, [{"text": text} for text in texts], synthetic_translator.generation_parameters()
    )
    lengths = _output_lengths(model, tokenizer, texts[:: max(1, len(texts) // 16)])
    standings = run_interleaved([*plain, Candidate(BARE_LOOP_NAME, ours)], len(texts), asked.rounds)
    report.print_throughput(
        f"Translation: {len(texts)} texts, {synthetic_translator.NUM_BEAMS} beams, at most "
        f"{synthetic_translator.MAX_NEW_TOKENS} tokens (of 16: "
        f"mean {mean(lengths):.0f}, median {median(lengths):.0f}, longest {max(lengths)}); Marian, 6 + 6 layers of 512",
        "texts/s",
        standings,
        BARE_LOOP_NAME,
        "seq2seq",
    )
    batched = standings[f"{GENERATE_PREFIX}{PEER_BATCH_SIZE}"]
    print(
        f"Against batches of {PEER_BATCH_SIZE}: "
        f"{standings[BARE_LOOP_NAME].items_per_second / batched.items_per_second:.2f} ×"
    )


def _generate_loop(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int) -> inference_loops.TimedRun:
    def run() -> float:
        started = time.perf_counter()
        for start in range(0, len(texts), batch_size):
            ids = _generate(model, tokenizer, texts[start : start + batch_size])
            tokenizer.batch_decode(ids, skip_special_tokens=True)
        return time.perf_counter() - started

    return run


def _output_lengths(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[int]:
    ends = tokenizer.eos_token_id
    written = [_generate(model, tokenizer, [text])[0, 1:].tolist() for text in texts]
    return [ids.index(ends) + 1 if ends in ids else len(ids) for ids in written]


@torch.inference_mode()
def _generate(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True, return_token_type_ids=False)
    ids: torch.Tensor = model.generate(
        **inputs,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        **synthetic_translator.generation_parameters(),
    )
    return ids


if __name__ == "__main__":
    main()
