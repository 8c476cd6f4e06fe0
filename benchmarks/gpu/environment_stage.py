"""The machine: versions, and what the card reaches in products and copies."""

import os
import subprocess
import sys
import time

import torch
import transformers

from benchmarks.gpu.measuring import StageContext

PRODUCT_SIZE, REPEATS = 8_192, 10
COPY_BYTES = 2**30


def run(context: StageContext) -> None:
    """Record the versions and the card's pace."""
    context.record(
        "versions",
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, transformers {transformers.__version__}",
        f"{os.cpu_count()} cores",
    )
    if context.smoke:
        return
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,clocks.sm,power.limit",
        "--format=csv,noheader",
    ]
    context.record("card", subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip())
    for name, dtype, tf32 in (
        ("bfloat16", torch.bfloat16, False),
        ("float32", torch.float32, False),
        ("float32 as TF32", torch.float32, True),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        size = PRODUCT_SIZE if dtype == torch.bfloat16 else PRODUCT_SIZE // 2
        pace = _teraflops(context, dtype, size)
        context.record(f"products in {name}", f"{pace:.0f} TFLOP/s", teraflops=pace)
    torch.backends.cuda.matmul.allow_tf32 = False
    pace = _copy_terabytes(context)
    context.record("copies on the card", f"{pace:.2f} TB/s", terabytes=pace)


def _teraflops(context: StageContext, dtype: torch.dtype, size: int) -> float:
    left, right = (torch.randn(size, size, device=context.device, dtype=dtype) for _ in range(2))
    left @ right
    context.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        left @ right
    context.synchronize()
    return 2 * size**3 * REPEATS / (time.perf_counter() - started) / 1e12


def _copy_terabytes(context: StageContext) -> float:
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    target.copy_(source)
    context.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        target.copy_(source)
    context.synchronize()
    return 2 * COPY_BYTES * REPEATS / (time.perf_counter() - started) / 1e12
