"""Where a program runs decides how it shows a batch."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from models.states import BatchStatus
from producer.batches.views import BatchView, JobCounts
from producer.live_view import show
from tests.unit.producer.live_view.test_words import progress_of

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

RUNNING = progress_of().batch
STARTING = replace(RUNNING, counts=JobCounts(0, 0, 0, 0, 0))
ENDED = replace(RUNNING, status=BatchStatus.COMPLETED, counts=JobCounts(30_000, 29_912, 88, 0, 0), name="<b>")


class Tracker:
    """Knows the progress of a batch without a database."""

    def record(self, batch: BatchView) -> None:
        self.batch = batch

    def progress_for(self, batch: BatchView) -> Any:
        return replace(progress_of(), batch=batch)


def show_all(*views: BatchView) -> None:
    with show.show_progress(Tracker()) as update:  # type: ignore[arg-type]
        for view in views:
            update(view)


class FakeNotebook:
    """IPython in a kernel: collects what is displayed, and what each display shows in the end."""

    def __init__(self) -> None:
        self.displays: list[list[dict[str, str]]] = []
        self.display = SimpleNamespace(display=self._display)
        self.kernel: object | None = object()

    def get_ipython(self) -> Any:
        return SimpleNamespace(kernel=self.kernel)

    def _display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.displays.append([content])
        return SimpleNamespace(update=lambda content, raw: self.displays[-1].append(content))


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> FakeNotebook:
    fake = FakeNotebook()
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    return fake


class TestNotebook:
    def test_one_display_is_updated_in_place(self, notebook: FakeNotebook, capsys: pytest.CaptureFixture[str]) -> None:
        show_all(STARTING, RUNNING, RUNNING, ENDED)

        [contents] = notebook.displays
        assert [content["text/plain"] for content in contents] == [
            "batch_1: 0 jobs, 1,000 jobs/s, about 3 min left (2 min to 5 min), 2 workers, padding 10.0%",
            "batch_1: 12,088 of 30,000 jobs, 1,000 jobs/s, about 3 min left (2 min to 5 min), 88 failed, 2 workers, "
            "padding 10.0%",
            "batch_1 completed: 30,000 jobs, 29,912 succeeded, 88 failed, 850 jobs/s",
        ]
        bars = [content["text/html"].partition("</progress>")[0] for content in contents]
        assert "value" not in bars[0].replace("vertical", "")
        assert bars[1].endswith('value="12088" max="30000">')
        assert bars[2].endswith('value="30000" max="30000">')
        assert capsys.readouterr() == ("", "")

    def test_html_shows_the_same_text_without_markup(self, notebook: FakeNotebook) -> None:
        failed = replace(ENDED, status=BatchStatus.FAILED, error_message="a <script> & more")

        show_all(failed)

        [[content]] = notebook.displays
        assert content["text/html"].endswith("a &lt;script&gt; &amp; more")
        assert content["text/plain"].endswith("a <script> & more")

    def test_ipython_on_a_terminal_is_no_notebook(
        self, notebook: FakeNotebook, capsys: pytest.CaptureFixture[str]
    ) -> None:
        notebook.kernel = None

        show_all(RUNNING, ENDED)

        assert notebook.displays == []
        assert "completed" in capsys.readouterr().err

    def test_a_real_ipython_shows_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        interactive_shell = pytest.importorskip("IPython.core.interactiveshell")
        capture = pytest.importorskip("IPython.utils.capture")
        monkeypatch.setattr("IPython.core.history.HistoryAccessor.enabled", False)
        shell = interactive_shell.InteractiveShell(ipython_dir=str(tmp_path))
        monkeypatch.setattr(shell, "kernel", object(), raising=False)
        monkeypatch.setattr("IPython.get_ipython", lambda: shell)
        monkeypatch.setattr(interactive_shell.InteractiveShell, "_instance", shell)

        with capture.capture_output() as captured:
            show_all(RUNNING, ENDED)

        first, last = captured.outputs
        assert "12,088 of 30,000 jobs" in first.data["text/plain"]
        assert "<progress" in last.data["text/html"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_shows_the_jobs_and_details(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)  # here, because pytest replaces it between a fixture and its test

    show_all(RUNNING)

    shown = ANSI.sub("", terminal.getvalue())
    assert "12,088/30,000 jobs" in shown
    assert "80 text_too_long" in shown


class TestElsewhere:
    def test_nothing_but_a_last_line_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_all(STARTING, RUNNING, ENDED)

        summary = "batch_1 completed: 30,000 jobs, 29,912 succeeded, 88 failed, 850 jobs/s\n"
        assert capsys.readouterr() == ("", summary)

    def test_a_program_without_stderr_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stderr", None)

        show_all(RUNNING, ENDED)
