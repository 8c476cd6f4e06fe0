"""The package peft, which is hidden from transformers: a model's files could name other models to it."""

import importlib
import sys
import threading
import warnings
from typing import Any

from transformers.utils import is_peft_available

from models.errors import LoadFailed

INSTALL = "pip install -c constraints.txt '.[lora]'"

_lock = threading.Lock()


def import_peft() -> Any:
    """Return the package; raises LoadFailed if it is not installed."""
    with _lock:
        if sys.modules.get("peft", ...) is None:
            # Transformers keeps the answer, which is that there is no peft: `worker` hides it.
            is_peft_available.cache_clear()
            is_peft_available()
            del sys.modules["peft"]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module("peft")
        except ImportError as error:
            sys.modules.setdefault("peft", None)  # type: ignore[arg-type]
            if isinstance(error, ModuleNotFoundError) and error.name == "peft":
                raise LoadFailed(f"adapter needs the extra lora; run: {INSTALL}") from None
            raise LoadFailed(f"peft can't be imported here ({str(error)[:200]}); run: {INSTALL}") from error
