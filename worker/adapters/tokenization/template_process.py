"""The child process that renders chat templates, which are programs that come with a model.

It reads one JSON line per conversation and writes one JSON line back. A template that never ends, or that allocates too
much memory, costs this process or one job; the worker continues.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from models.foreign_errors import first_line
from models.processes import memory_limit

CPU_SECONDS = 2.0  # per conversation; a real template takes less than a thousandth of it
MAX_MEMORY_BYTES = 512 << 20
MAX_PROMPT_CHARACTERS = 8_000_000  # several times the longest conversation
TOO_LONG_MESSAGE = f"it writes more than {MAX_PROMPT_CHARACTERS:,} characters"


def serve(requests: Iterable[str], responses: TextIO, cpu_seconds: float) -> None:
    """Answer requests line by line; the first line holds the template and its special tokens, and gets no answer."""
    from transformers.utils.chat_template_utils import render_jinja_template

    memory_limit.limit_address_space(MAX_MEMORY_BYTES)
    template: dict[str, Any] = {}
    for line in requests:
        request = json.loads(line)
        if not template:
            template = request
            continue
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF has no handler, so it kills the process
        try:
            [text], _ = render_jinja_template(**request, **template)
            response = {"text": text} if len(text) <= MAX_PROMPT_CHARACTERS else {"error": TOO_LONG_MESSAGE}
        except MemoryError:
            response = {"error": "it takes more memory than a prompt may"}
        except Exception as error:  # a template may raise anything
            response = {"error": first_line(error) or type(error).__name__}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        responses.write(json.dumps(response) + "\n")
        responses.flush()


if __name__ == "__main__":
    protocol_stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep a library's prints out of the protocol
    serve(sys.stdin, protocol_stream, float(sys.argv[1]))
