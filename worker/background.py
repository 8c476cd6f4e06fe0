"""Background: what looks around from a thread of its own, beside the work, until it is told to stop."""

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """A daemon thread that runs `_loop`, which ends once `_stopping` is set."""

    def __init__(self, name: str) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """From now on look around."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being done, and do no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @abstractmethod
    def _loop(self) -> None:
        """Wait on `_stopping`, act, and wait again."""
