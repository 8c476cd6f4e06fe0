"""The schema probe tries an output schema in a separate process before a submitter or a worker uses it.

A schema is a program for the library: a short one may take minutes and gigabytes before its first token.
"""

import errno
import json
import os
import signal
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec

from models.processes.memory_limit import limit_address_space
from models.tasks.generation import output_schema

# Usual schemas take milliseconds and a few megabytes; one of 1,200 properties takes 0.1 s and 20 MB.
MAX_CPU_SECONDS = 2.0
MEMORY_BYTES = 512 << 20  # added to what the process takes by itself
TIMEOUT_SECONDS = 60.0

MAX_LEXER_STATES = 50_000  # of one text, 2 kB each; real schemas use a few hundred

LIMIT_SIGNALS = (signal.SIGPROF, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
EXIT_OUT_OF_MEMORY = 4
TOO_LARGE = "it takes too much time or memory; simplify its patterns, or name fewer of them in one allOf"


@lru_cache(maxsize=256)
def find_problem(schema: str) -> str | None:
    """Return why no text can be written to this schema; None if some can, or if the library is not installed here.

    Raises OSError if this machine ends the probe, which says nothing of the schema.
    """
    if find_spec(output_schema.PACKAGE) is None:
        return None
    ended = _run_probe(schema)
    if -ended.returncode in LIMIT_SIGNALS or ended.returncode == EXIT_OUT_OF_MEMORY:
        return TOO_LARGE
    if ended.returncode != 0:  # SIGKILL may be the kernel's, for memory that other processes use
        status = ended.returncode
        raise BlockingIOError(errno.EAGAIN, f"the trial of an output_schema ended with status {status}; try it again")
    problem: str | None = json.loads(ended.stdout)
    return problem


def _run_probe(schema: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", "-m", __name__, str(MAX_CPU_SECONDS), str(MEMORY_BYTES)]
    try:
        return subprocess.run(
            command,
            input=schema.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "RAYON_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError("this machine is too busy to try an output_schema") from None


def main(cpu_seconds: float, memory_bytes: int) -> int:
    """Try the schema of stdin under limits, write its problem to stdout as JSON, and return the exit status."""
    from llguidance import LLTokenizer

    schema, tokenizer = sys.stdin.buffer.read().decode(), LLTokenizer("byte")
    limit_address_space(memory_bytes)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # has no handler, so it ends the process
    try:
        problem = try_schema(schema, tokenizer)
    except MemoryError:
        return EXIT_OUT_OF_MEMORY
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        problem = output_schema.explain(str(error))
    sys.stdout.write(json.dumps(problem))
    return 0


def try_schema(schema: str, tokenizer: object) -> str | None:
    """Compile a schema and find the first tokens of its text; return its problem, or None."""
    from llguidance import LLMatcher, LLParserLimits

    try:
        grammar = output_schema.to_grammar(schema)
        has_error, messages = LLMatcher.validate_grammar_with_warnings(grammar)
        if has_error:
            return output_schema.explain(messages[0])
        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        LLMatcher(tokenizer, grammar, log_level=0, limits=limits).compute_bitmask()
    except ValueError as error:
        return output_schema.explain(str(error))
    return None


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
