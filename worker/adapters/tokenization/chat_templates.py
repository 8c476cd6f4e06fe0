"""Templates: a model's chat template, run in a process of its own that may end without ours."""

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

from models.errors import JobError, first_line
from worker.adapters.tokenization import template_process

log = structlog.get_logger(__name__)

WALL_SECONDS = 60.0  # for one conversation, where the machine is too busy for the process to use its own time up
LAST_SECONDS = 5.0  # until a process whose pipes have ended has ended, too
HANGS = 3  # one after the other, after which no further conversation is tried
# What the process needs to start. It gets no other variable: some are secrets, and templates come from strangers.
VARIABLES = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOME")

HUNG = "the model's chat template does not come to an end for these messages; take text, or another model"
GIVEN_UP = f"the model's chat template did not come to an end for {HANGS} inputs before, so this one was not tried"


class _Hung(Exception):
    """The process used its time up."""


class ChatTemplate:
    """Makes prompts of conversations; to be used by one thread."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._process: subprocess.Popen[bytes] | None = None
        self._hangs = 0
        # Few tokenizers bring code of transformers' own instead of a template.
        self._is_template = type(tokenizer).apply_chat_template is PreTrainedTokenizerBase.apply_chat_template

    def prompt(self, messages: Sequence[Mapping[str, str]], *, goes_on: bool) -> str:
        """The prompt, in which the last message may be gone on with.

        Raises JobError: `no_chat_template`, `invalid_messages` where the template refuses them, and
        `chat_template_hung` where it does not end.
        """
        if self._tokenizer.chat_template is None:
            raise JobError("no_chat_template", "this model has no chat template; give text instead of messages")
        if self._hangs >= HANGS:
            raise JobError("chat_template_hung", GIVEN_UP)
        asked = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on}
        try:
            if not self._is_template:
                found: str = self._tokenizer.apply_chat_template(messages, tokenize=False, **asked)
                return found
            answer = self._answer({"conversations": [list(messages)], **asked})
        except _Hung:
            self._hangs += 1
            log.error("chat template hung", times=self._hangs)
            raise JobError("chat_template_hung", HUNG) from None
        except Exception as error:  # a template is a program; it raises what it likes
            raise _refused(first_line(error)) from error
        self._hangs = 0
        if "error" in answer:
            raise _refused(answer["error"])
        return answer["text"]

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, str]:
        for last in (False, True):
            try:
                return self._asked(asked)
            except (BrokenPipeError, EOFError):  # somebody has killed it, perhaps before this
                if last:
                    raise
        raise AssertionError

    def _asked(self, asked: Mapping[str, Any]) -> dict[str, str]:
        process = self._process or self._start()
        try:
            _write(process, asked)
            answer: dict[str, str] = json.loads(_line(process, WALL_SECONDS))
            return answer
        except BaseException as error:
            self._process = None
            _end(process, LAST_SECONDS if isinstance(error, (BrokenPipeError, EOFError)) else 0.0)
            if process.returncode == -signal.SIGPROF:
                raise _Hung from None
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", template_process.__name__, str(template_process.CPU_SECONDS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={name: os.environ[name] for name in VARIABLES if name in os.environ} | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        weakref.finalize(self, _end, process)
        template = self._tokenizer.get_chat_template()
        _write(process, {"chat_template": template, **self._tokenizer.special_tokens_map})
        self._process = process
        return process


def _refused(why: str) -> JobError:
    return JobError("invalid_messages", f"the model's chat template does not take these messages: {why[:200]}")


def _write(process: subprocess.Popen[bytes], said: Mapping[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(said, default=str).encode() + b"\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes:
    """A line from the process; raises EOFError where it ends, _Hung where nothing comes for so long."""
    assert process.stdout is not None
    pieces: list[bytes] = []
    deadline = time.monotonic() + seconds
    while not (pieces and pieces[-1].endswith(b"\n")):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise _Hung
        if not (piece := os.read(process.stdout.fileno(), 1 << 20)):
            raise EOFError
        pieces.append(piece)
    return b"".join(pieces)


def _end(process: subprocess.Popen[bytes], seconds: float = 0.0) -> None:
    """End it, unless it does so by itself within these seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):  # what was to be written has no reader any more
                stream.close()
