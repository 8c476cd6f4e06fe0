"""Environments for peers that conflict with ours, created on first use with `python -m venv` and exact versions."""

import subprocess
import sys
import tempfile
from pathlib import Path

ENVIRONMENTS_FOLDER = Path(__file__).parent / ".envs"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"

CELERY_BATCHES_REQUIREMENTS = (
    "celery[redis]==5.6.3",
    "celery-batches==0.11",
    "psycopg[binary]",
)  # incompatible with Celery 5.7
RAY_REQUIREMENTS = ("ray[data]==2.60.0",)
RQ_REQUIREMENTS = ("rq==3.0.0",)
ONNX_RUNTIME_REQUIREMENTS = ("onnxruntime==1.32.0", "onnx==1.23.2", "onnxscript==0.7.2", "sympy")
MODEL_REQUIREMENTS = ("torch==2.13.0", "transformers==5.23.0", "numpy")

# Our versions are newer than these packages accept.
UNCONSTRAINED_PACKAGES = ("celery", "kombu", "billiard", "vine", "amqp", "click")


def celery_batches_python() -> Path:
    """Return the Python with celery-batches and the newest Celery that it accepts."""
    return _create_environment("celery-batches", (*CELERY_BATCHES_REQUIREMENTS, *MODEL_REQUIREMENTS))


def ray_python() -> Path:
    """Return the Python with Ray Data."""
    return _create_environment("ray", (*RAY_REQUIREMENTS, *MODEL_REQUIREMENTS))


def rq_python() -> Path:
    """Return the Python with RQ."""
    return _create_environment("rq", RQ_REQUIREMENTS)


def onnxruntime_python() -> Path:
    """Return the Python with ONNX Runtime and the packages with which torch exports a model."""
    return _create_environment("onnxruntime", (*ONNX_RUNTIME_REQUIREMENTS, *MODEL_REQUIREMENTS))


def _create_environment(name: str, requirements: tuple[str, ...]) -> Path:
    folder = ENVIRONMENTS_FOLDER / name
    python, made = folder / "bin" / "python", folder / "made-of"
    wanted = "\n".join(requirements)
    if not made.exists() or made.read_text() != wanted:
        print(f"  making an environment for {name}; the first time this takes minutes", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
            pins.write("\n".join(line for line in CONSTRAINTS.read_text().splitlines() if _is_constraint_used(line)))
            pins.flush()
            install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", pins.name]
            subprocess.run([*install, *requirements], check=True)
        made.write_text(wanted)
    return python


def _is_constraint_used(line: str) -> bool:
    return not line.lower().startswith(UNCONSTRAINED_PACKAGES)
