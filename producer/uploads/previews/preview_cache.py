"""Previews that were made lately: a file never changes, and one look at it may take seconds."""

import threading
from collections import OrderedDict

from models.settings import Settings
from producer.uploads.files import FileView
from producer.uploads.previews.preview import Preview, preview_file
from producer.uploads.storage.store import FileStore

MAX_PREVIEWS = 16  # of at most a megabyte each


class PreviewCache:
    """The previews of this process; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._previews: OrderedDict[tuple[str, str | None, str], Preview] = OrderedDict()

    def get(
        self,
        settings: Settings,
        store: FileStore,
        file: FileView,
        file_format: str | None = None,
        column_names: str = "",
    ) -> Preview:
        """Return the preview of a file; raises as `preview_file` does."""
        key = (file.id, file_format, column_names)
        with self._lock:
            preview = self._previews.get(key)
        if preview is None:
            preview = preview_file(settings, store, file, file_format, column_names)
        with self._lock:
            self._previews[key] = preview
            self._previews.move_to_end(key)
            if len(self._previews) > MAX_PREVIEWS:
                self._previews.popitem(last=False)
        return preview
