"""Translation by beams with skewed lengths: rows whose beams are settled leave, in a loop of `generate` they wait."""

import time
from collections.abc import Sequence
from statistics import mean, median
from typing import Any

import torch

from benchmarks import THREADS, checkpoints, corpus, loops, options, report, translator
from benchmarks.contest import Contestant, held

OURS, PLAIN = "our bare loop", "model.generate, batches of "
SIZES, PEER_SIZE = (1, 8, 32), 8


def main() -> None:
    """Print the paces and how they stand to plain loops; transformers 5 has no pipeline for this task."""
    asked = options.parsed(__doc__, items=32, rounds=2)
    folder = translator.checkpoint()
    tokenizer = checkpoints.tokenizer(folder)
    texts = corpus.texts(tokenizer, asked.items, "even")
    torch.set_num_threads(THREADS)
    loaded = loops.load("translation", folder)
    model = loaded.adapter._writing._model  # type: ignore[attr-defined]
    plain = [Contestant(f"{PLAIN}{size}", _plain(model, tokenizer, texts, size)) for size in SIZES]
    ours = loops.bare(loaded, [{"text": text} for text in texts], translator.told())
    lengths = _lengths(model, tokenizer, texts[:: max(1, len(texts) // 16)])
    standings = held([*plain, Contestant(OURS, ours)], len(texts), asked.rounds)
    report.paces(
        f"Translation: {len(texts)} texts, {translator.BEAMS} beams, at most {translator.MOST_TOKENS} tokens (of 16: "
        f"mean {mean(lengths):.0f}, median {median(lengths):.0f}, longest {max(lengths)}); Marian, 6 + 6 layers of 512",
        "texts/s", standings, OURS,
    )  # fmt: skip
    print(f"Against batches of {PEER_SIZE}: {standings[OURS].pace / standings[f'{PLAIN}{PEER_SIZE}'].pace:.2f} ×")


def _plain(model: Any, tokenizer: Any, texts: Sequence[str], size: int) -> loops.Loop:
    def run() -> float:
        started = time.perf_counter()
        for start in range(0, len(texts), size):
            ids = _written(model, tokenizer, texts[start : start + size])
            tokenizer.batch_decode(ids, skip_special_tokens=True)
        return time.perf_counter() - started

    return run


def _lengths(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[int]:
    ends = tokenizer.eos_token_id
    written = [_written(model, tokenizer, [text])[0, 1:].tolist() for text in texts]
    return [ids.index(ends) + 1 if ends in ids else len(ids) for ids in written]


@torch.inference_mode()
def _written(model: Any, tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    inputs = tokenizer(list(texts), return_tensors="pt", padding=True, return_token_type_ids=False)
    ids: torch.Tensor = model.generate(
        **inputs, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id, **translator.told(),
    )  # fmt: skip
    return ids


if __name__ == "__main__":
    main()
