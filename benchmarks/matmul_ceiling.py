"""The matmul ceiling: tokens per second if DistilBERT-base had only its matrix products."""

import copy
import time

import torch

from benchmarks import THREADS, report
from worker.layers import onednn_linear

LAYERS, HIDDEN_SIZE, INTERMEDIATE_SIZE = 6, 768, 3072
# Inner products of one layer: queries, keys, values and output; up; down.
SHAPES = (*[(HIDDEN_SIZE, HIDDEN_SIZE)] * 4, (HIDDEN_SIZE, INTERMEDIATE_SIZE), (INTERMEDIATE_SIZE, HIDDEN_SIZE))
ROWS = (512, 1_024, 2_048)


@torch.inference_mode()
def tokens_per_second(rows: int, repeats: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """Return the tokens per second of the model's products; the fastest run, because it is a bound.

    Uses torch's default or oneDNN, the faster of the two here (worker/layers/onednn_linear.py).
    """
    torch.set_num_threads(THREADS)
    plain = [torch.nn.Linear(*shape, dtype=dtype) for _ in range(LAYERS) for shape in SHAPES]
    quick = copy.deepcopy(plain)
    onednn_linear.use_onednn(torch.nn.ModuleList(quick))
    inputs = {width: torch.randn(rows, width, dtype=dtype) for width in (HIDDEN_SIZE, INTERMEDIATE_SIZE)}
    seconds = []
    for layers in (plain, quick) * (repeats + 1):
        started = time.perf_counter()
        for layer in layers:
            layer(inputs[layer.in_features])
        seconds.append(time.perf_counter() - started)
    return rows / min(seconds[2:])


def max_tokens_per_second(dtype: torch.dtype = torch.float32) -> float:
    """Return the tokens per second at the best size for this machine."""
    return max(tokens_per_second(rows, dtype=dtype) for rows in ROWS)


def main() -> None:
    """Print the ceiling for several sizes."""
    rows = [(f"{rows:,}", f"{tokens_per_second(rows):,.0f}") for rows in ROWS]
    report.print_table("Matrix products alone, float32", ("tokens at once", "tokens/s"), rows)


if __name__ == "__main__":
    main()
