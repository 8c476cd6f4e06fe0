"""The chat template of a model, rendered in a child process that may hang or crash without the worker."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from transformers import PreTrainedTokenizerBase

from models.errors import JobError
from models.foreign_errors import first_line
from worker.adapters.tokenization import template_process

log = structlog.get_logger(__name__)

RENDER_TIMEOUT_SECONDS = 60.0  # per conversation, for a machine too busy to let the process use up its CPU time
EXIT_TIMEOUT_SECONDS = 5.0  # for a process to exit after it has closed its pipes
MAX_CONSECUTIVE_HANGS = 3  # no further conversation is tried after that
# The process gets no other variables: some are secrets, and templates come from strangers.
ENVIRONMENT_VARIABLES = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOME")

HUNG_MESSAGE = "the model's chat template does not end for these messages; give text instead, or take another model"
DISABLED_MESSAGE = (
    f"the model's chat template did not end for {MAX_CONSECUTIVE_HANGS} inputs in a row, so this one was not tried"
)


class _TemplateHung(Exception):
    """The process used up its time."""


class ChatTemplate:
    """Renders conversations as prompts. Not thread-safe."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._process: subprocess.Popen[bytes] | None = None
        self._consecutive_hangs = 0
        # A few tokenizers override the method with code of transformers, which needs no child process.
        self._uses_jinja_template = type(tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template

    def render(self, messages: Sequence[Mapping[str, str]], *, continue_final_message: bool) -> str:
        """Return the prompt; with `continue_final_message` it ends inside the last message.

        Raises JobError: `no_chat_template`, `invalid_messages` when the template rejects them, and
        `chat_template_hung` when it does not end.
        """
        if self._tokenizer.chat_template is None:
            raise JobError("no_chat_template", "this model has no chat template; give text instead of messages")
        if self._consecutive_hangs >= MAX_CONSECUTIVE_HANGS:
            raise JobError("chat_template_hung", DISABLED_MESSAGE)
        options = {
            "add_generation_prompt": not continue_final_message,
            "continue_final_message": continue_final_message,
        }
        try:
            if not self._uses_jinja_template:
                prompt: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
                return prompt
            response = self._request_with_retry({"conversations": [list(messages)], **options})
        except _TemplateHung:
            self._consecutive_hangs += 1
            log.error("chat_template.hung", consecutive_hangs=self._consecutive_hangs)
            raise JobError("chat_template_hung", HUNG_MESSAGE) from None
        except Exception as error:  # a template may raise anything
            raise _invalid_messages_error(first_line(error)) from error
        self._consecutive_hangs = 0
        if "error" in response:
            raise _invalid_messages_error(response["error"])
        return response["text"]

    def _request_with_retry(self, request: Mapping[str, Any]) -> dict[str, str]:
        try:
            return self._send_request(request)
        except (BrokenPipeError, EOFError):  # the process was killed, perhaps since the last request
            return self._send_request(request)

    def _send_request(self, request: Mapping[str, Any]) -> dict[str, str]:
        process = self._process or self._start_process()
        try:
            _write_line(process, request)
            response: dict[str, str] = json.loads(_read_line(process, RENDER_TIMEOUT_SECONDS))
            return response
        except BaseException as error:
            self._process = None
            _stop_process(process, EXIT_TIMEOUT_SECONDS if isinstance(error, (BrokenPipeError, EOFError)) else 0.0)
            if process.returncode == -signal.SIGPROF:
                raise _TemplateHung from None
            raise

    def _start_process(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", template_process.__name__, str(template_process.CPU_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={name: os.environ[name] for name in ENVIRONMENT_VARIABLES if name in os.environ}
            | {"HF_HUB_OFFLINE": "1"},
        )
        weakref.finalize(self, _stop_process, process)
        template = self._tokenizer.get_chat_template()
        _write_line(process, {"chat_template": template, **self._tokenizer.special_tokens_map})
        self._process = process
        return process


def _invalid_messages_error(reason: str) -> JobError:
    return JobError("invalid_messages", f"the model's chat template does not take these messages: {reason[:200]}")


def _write_line(process: subprocess.Popen[bytes], message: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
    process.stdin.flush()


def _read_line(process: subprocess.Popen[bytes], timeout_seconds: float) -> bytes:
    """Read a line from the process. Raises EOFError at the end of its output, _TemplateHung after the timeout."""
    assert process.stdout is not None
    pieces: list[bytes] = []
    deadline = time.monotonic() + timeout_seconds
    while not (pieces and pieces[-1].endswith(b"\n")):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise _TemplateHung
        if not (piece := os.read(process.stdout.fileno(), 1 << 20)):
            raise EOFError
        pieces.append(piece)
    return b"".join(pieces)


def _stop_process(process: subprocess.Popen[bytes], grace_seconds: float = 0.0) -> None:
    """Wait for the process to exit, and kill it after the grace period."""
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):  # the buffered request has no reader any more
                stream.close()
