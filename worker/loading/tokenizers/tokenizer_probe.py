"""The tokenizer probe tries a suspicious `tokenizer.json` in a separate process before a worker loads it.

Its replacements and patterns form a program, which may never end, or expand a short text without bound.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from models.errors import LoadFailed, ModelError
from models.processes import memory_limit

# Parts of a tokenizer that can do so; most tokenizers have none and are not probed.
SUSPICIOUS_PARTS = (b'"Replace"', b'"Regex"', b'"Prepend"')

MAX_CPU_SECONDS = 20
TIMEOUT_SECONDS = 300.0
BASE_MEMORY_BYTES = 2 << 30  # added to the memory for the file, a multiple of its size
MEMORY_BYTES_PER_FILE_BYTE = 60
MAX_TOKENS_PER_CHARACTER = 100

PROBE_TEXT = (
    "The quick brown fox jumps over the lazy dog, 1234567890 times! éàüß ñ 你好 мир \U0001f600\n\n  "
    + "".join(map(chr, range(32, 127)))
    + "aaaaaaaaaaaaaaaa eeeeeeeeeeeeeeee                "
)

EXTERNAL_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EXIT_TOO_MANY_TOKENS, EXIT_OUT_OF_MEMORY = 3, 4  # exit statuses


def check(name: str, folder: Path) -> None:
    """Probe a tokenizer's file. Raises ModelError if it is unusable, LoadFailed if this machine ends the probe."""
    path = folder / "tokenizer.json"
    if not path.is_file() or not any(part in path.read_bytes() for part in SUSPICIOUS_PARTS):
        return
    status = _run_probe(name, path)
    if -status in EXTERNAL_SIGNALS:  # SIGKILL may be the kernel's, for memory that other processes use
        raise LoadFailed(f"the trial of the tokenizer of {name} was ended by signal {-status}; it will be tried again")
    if status == -signal.SIGPROF:
        raise ModelError(f"the tokenizer of {name} does not come to an end with a short text; take another")
    if status in (EXIT_OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS):
        raise ModelError(f"the tokenizer of {name} takes more memory for a short text than any should; take another")
    if status == EXIT_TOO_MANY_TOKENS:
        raise ModelError(f"the tokenizer of {name} makes more than a hundred tokens of a character; take another")


def _run_probe(name: str, path: Path) -> int:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-P", "-m", __name__, str(path), str(MAX_CPU_SECONDS)]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            env=environment,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"this machine is too busy to try the tokenizer of {name}") from None


def main(path: str, cpu_seconds: float) -> int:
    """Encode the probe text under limits and return the exit status; the load itself reports all other errors."""
    from tokenizers import Tokenizer

    memory_limit.limit_address_space(BASE_MEMORY_BYTES + MEMORY_BYTES_PER_FILE_BYTE * Path(path).stat().st_size)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # has no handler, so it ends the process
    try:
        tokens = len(Tokenizer.from_file(path).encode(PROBE_TEXT).ids)
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    except BaseException:  # a panic in a library written in Rust is no Exception
        return 0
    return EXIT_TOO_MANY_TOKENS if tokens > MAX_TOKENS_PER_CHARACTER * len(PROBE_TEXT) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
