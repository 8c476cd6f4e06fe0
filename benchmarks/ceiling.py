"""The ceiling: how many tokens a second the matrix products of a DistilBERT-base alone would allow on this machine."""

import time

import torch

from benchmarks import THREADS, report

LAYERS, STATE, INNER = 6, 768, 3072
# Inner products of one layer: queries, keys, values and output; up; down.
SHAPES = (*[(STATE, STATE)] * 4, (STATE, INNER), (INNER, STATE))
ROWS = (512, 1_024, 2_048)


@torch.inference_mode()
def tokens_per_second(rows: int, repeats: int = 5) -> float:
    """fp32 `torch.mm` at the model's own shapes, for so many tokens at once; the fastest run, since it is a bound."""
    torch.set_num_threads(THREADS)
    weights = [torch.randn(shape) for _ in range(LAYERS) for shape in SHAPES]
    inputs = {width: torch.randn(rows, width) for width in (STATE, INNER)}
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        for weight in weights:
            torch.mm(inputs[weight.shape[0]], weight)
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds[1:])


def best() -> float:
    """Tokens per second at the size that suits the machine best."""
    return max(tokens_per_second(rows) for rows in ROWS)


def main() -> None:
    """Print the ceiling for several sizes."""
    rows = [(f"{rows:,}", f"{tokens_per_second(rows):,.0f}") for rows in ROWS]
    report.table("Matrix products alone, float32", ("tokens at once", "tokens/s"), rows)


if __name__ == "__main__":
    main()
