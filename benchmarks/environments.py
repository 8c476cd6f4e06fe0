"""Environments of the peers that can't share ours, made on first use: `python -m venv`, and pip with exact versions."""

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / ".envs"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"

CELERY_BATCHES = ("celery[redis]==5.6.3", "celery-batches==0.11", "psycopg[binary]")  # it does not take Celery 5.7
RAY = ("ray[data]==2.60.0",)
RQ = ("rq==3.0.0",)
ONNX_RUNTIME = ("onnxruntime==1.32.0", "onnx==1.23.2", "onnxscript==0.7.2", "sympy")
MODELS = ("torch==2.13.0", "transformers==5.23.0", "numpy")

# Ours are newer than what those take.
UNPINNED = ("celery", "kombu", "billiard", "vine", "amqp", "click")


def celery_batches() -> Path:
    """The Python that has celery-batches, with the newest Celery that it takes."""
    return _python("celery-batches", (*CELERY_BATCHES, *MODELS))


def ray() -> Path:
    """The Python that has Ray Data."""
    return _python("ray", (*RAY, *MODELS))


def rq() -> Path:
    """The Python that has RQ."""
    return _python("rq", RQ)


def onnxruntime() -> Path:
    """The Python that has ONNX Runtime, and what torch needs to export a model for it."""
    return _python("onnxruntime", (*ONNX_RUNTIME, *MODELS))


def _python(name: str, requirements: tuple[str, ...]) -> Path:
    folder = FOLDER / name
    python, made = folder / "bin" / "python", folder / "made-of"
    wanted = "\n".join(requirements)
    if not made.exists() or made.read_text() != wanted:
        print(f"  making an environment for {name}; the first time this takes minutes", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
            pins.write("\n".join(line for line in CONSTRAINTS.read_text().splitlines() if _applies(line)))
            pins.flush()
            install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", pins.name]
            subprocess.run([*install, *requirements], check=True)
        made.write_text(wanted)
    return python


def _applies(line: str) -> bool:
    return not line.lower().startswith(UNPINNED)
