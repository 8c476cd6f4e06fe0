"""Shows a batch to a Python program's user, in the way that suits where it runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from models.privacy import terminal
from producer.batches.batch_view import BatchView
from producer.batches.progress.batch_progress import Tracker
from producer.live_view import bar, notebook, words
from producer.live_view.bar import UpdateView


@contextmanager
def show_progress(tracker: Tracker) -> Iterator[UpdateView]:
    """Show a display in a notebook, a bar on a terminal, and nothing but a last line on stderr elsewhere.

    The block calls the yielded function with the batch at every poll.
    """
    if notebook.is_notebook():
        yield notebook.NotebookView(tracker).update
    elif sys.stderr is not None and sys.stderr.isatty():
        with bar.show_bar(tracker) as update:
            yield update
    else:
        yield _print_last_line


def _print_last_line(batch: BatchView) -> None:
    if batch.status.has_ended:
        terminal.print_notice(words.summary(batch))
