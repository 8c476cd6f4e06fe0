"""The tie to the process that started us: it holds our standard input open, and its end is ours, however it came."""

import os
import signal
import threading


def end_with_it() -> None:
    """Have SIGTERM sent to this process when standard input ends. A SIGKILL of the parent shows here as well."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
