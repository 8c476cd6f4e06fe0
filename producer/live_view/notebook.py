"""A display in a notebook that is updated in place: Jupyter, VS Code, Colab and every other IPython kernel."""

import html
import sys
from typing import Any

from producer.batches.batch_view import BatchView
from producer.batches.progress.batch_progress import Tracker
from producer.live_view import words

BAR_STYLE = "width: 20em; vertical-align: middle"


def is_notebook() -> bool:
    """Whether this program runs in a kernel, whose displays can be updated; IPython on a terminal has none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class NotebookView:
    """Shows a batch's progress as HTML, and as text where a notebook shows no HTML."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._handle: Any = None  # of the display, once there is one
        self._last_line = ""

    def update(self, batch: BatchView) -> None:
        """Show the batch as it is at a poll."""
        self._tracker.record(batch)
        line = words.summary(batch) if batch.status.has_ended else self._running_line(batch)
        if line != self._last_line:
            self._last_line = line
            self._show({"text/plain": line, "text/html": _as_html(batch, line)})

    def _running_line(self, batch: BatchView) -> str:
        counts = batch.counts
        count = f"{counts.ended:,} of {counts.total:,} jobs" if counts.total else "0 jobs"
        return ", ".join([f"{batch.id}: {count}", *words.line_parts(self._tracker.progress_for(batch))])

    def _show(self, content: dict[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _as_html(batch: BatchView, line: str) -> str:
    counts = batch.counts
    # Without a value the bar shows that the total is unknown.
    value = f' value="{counts.ended}" max="{counts.total}"' if counts.total else ""
    return f'<progress style="{BAR_STYLE}"{value}></progress> {html.escape(line)}'
