"""The matmul ceiling: tokens per second if an encoder had only its matrix products.

Without further words that means the products with weights. Those of attention are few in wide models; a narrow one has
a ceiling with them as well.
"""

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks import THREADS, report
from worker.layers import onednn_linear

ROWS = (512, 1_024, 2_048)


Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of an encoder."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inner products of one layer: queries, keys, values and output; up; down."""
        hidden, intermediate = self.hidden_size, self.intermediate_size
        return [*[(hidden, hidden)] * 4, (hidden, intermediate), (intermediate, hidden)]


DISTILBERT_BASE = Geometry(layers=6, hidden_size=768, intermediate_size=3_072, heads=12)
MINILM = Geometry(layers=6, hidden_size=384, intermediate_size=1_536, heads=12)


@torch.inference_mode()
def tokens_per_second(
    rows: int,
    repeats: int = 5,
    dtype: torch.dtype = torch.float32,
    geometry: Geometry = DISTILBERT_BASE,
    clock: Clock = time.perf_counter,
) -> float:
    """Return the tokens per second of the products with weights; the fastest run, because it is a bound.

    Uses torch's default or oneDNN, the faster of the two here (worker/layers/onednn_linear.py).

    clock: `time.process_time` gives tokens per second of processor time, whatever else the machine does.
    """
    torch.set_num_threads(THREADS)
    plain = [torch.nn.Linear(*shape, dtype=dtype) for _ in range(geometry.layers) for shape in geometry.shapes]
    quick = copy.deepcopy(plain)
    onednn_linear.use_onednn(torch.nn.ModuleList(quick))
    inputs = {width: torch.randn(rows, width, dtype=dtype) for shape in geometry.shapes for width in shape}
    seconds = []
    for layers in (plain, quick) * (repeats + 1):
        started = clock()
        for layer in layers:
            layer(inputs[layer.in_features])
        seconds.append(clock() - started)
    return rows / min(seconds[2:])


def max_tokens_per_second(
    dtype: torch.dtype = torch.float32, geometry: Geometry = DISTILBERT_BASE, clock: Clock = time.perf_counter
) -> float:
    """Return the tokens per second at the best size for this machine."""
    return max(tokens_per_second(rows, dtype=dtype, geometry=geometry, clock=clock) for rows in ROWS)


@torch.inference_mode()
def attention_seconds(
    lengths: Sequence[int], geometry: Geometry, repeats: int = 5, clock: Clock = time.perf_counter
) -> float:
    """Return the seconds of attention's products for texts of these lengths, in float32; the fastest run of each.

    Texts of one length are multiplied together, at most so many as in a micro-batch.
    """
    torch.set_num_threads(THREADS)
    size, total = geometry.hidden_size // geometry.heads, 0.0
    for length, count in sorted(Counter(lengths).items()):
        texts = min(count, max(1, ROWS[-1] // length))
        queries, keys = torch.randn(2, texts * geometry.heads, length, size)
        weights = torch.randn(texts * geometry.heads, length, length)
        seconds = []
        for _ in range(repeats + 1):
            started = clock()
            torch.bmm(queries, keys.transpose(1, 2))
            torch.bmm(weights, keys)
            seconds.append(clock() - started)
        total += min(seconds[1:]) * count / texts
    return total * geometry.layers


def main() -> None:
    """Print the ceiling for several sizes."""
    rows = [
        (f"{rows:,}", *(f"{tokens_per_second(rows, geometry=geometry):,.0f}" for geometry in (DISTILBERT_BASE, MINILM)))
        for rows in ROWS
    ]
    header = ("tokens at once", "DistilBERT-base, tokens/s", "MiniLM-L6, tokens/s")
    report.print_table("Matrix products alone, float32", header, rows)


if __name__ == "__main__":
    main()
