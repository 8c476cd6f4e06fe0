"""Rendering: the process in which chat templates are run, which are programs that come with models.

It reads a line of JSON for each conversation and answers with one. A template that does not end, or takes what memory
it finds, costs this process, or a sentence; the worker goes on.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from models.errors import first_line
from worker import process_memory

CPU_SECONDS = 2.0  # for one conversation; a real template takes less than a thousandth of it
MAX_MEMORY_BYTES = 512 << 20
MAX_PROMPT_CHARACTERS = 8_000_000  # characters of a prompt: several times those of the longest conversation
TOO_LONG_MESSAGE = f"it writes more than {MAX_PROMPT_CHARACTERS:,} characters"


def serve(requests: Iterable[str], responses: TextIO, cpu_seconds: float) -> None:
    """Answer line by line until there is none. The first names the template and the special tokens that it may use."""
    from transformers.utils.chat_template_utils import render_jinja_template

    process_memory.limit_address_space(MAX_MEMORY_BYTES)
    given: dict[str, Any] = {}
    for line in requests:
        asked = json.loads(line)
        if not given:
            given = asked
            continue
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # nobody handles the signal, so it ends the process
        try:
            [text], _ = render_jinja_template(**asked, **given)
            answer = {"text": text} if len(text) <= MAX_PROMPT_CHARACTERS else {"error": TOO_LONG_MESSAGE}
        except MemoryError:
            answer = {"error": "it takes more memory than a prompt may"}
        except Exception as error:  # a program raises what it likes
            answer = {"error": first_line(error) or type(error).__name__}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        responses.write(json.dumps(answer) + "\n")
        responses.flush()


if __name__ == "__main__":
    protocol_stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    serve(sys.stdin, protocol_stream, float(sys.argv[1]))
