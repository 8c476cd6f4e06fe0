"""The light side: submit, read and poll. `from producer import Client`; never imports torch."""

from typing import TYPE_CHECKING, Any

try:
    from batchmill import refuse_shadows
except ImportError as error:  # a user's own batchmill.py, perhaps the very script that imports us
    raise ImportError("another batchmill.py shadows Batchmill's own; rename it or run from another folder") from error

refuse_shadows("models")

if TYPE_CHECKING:
    from producer.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    # On first use, so that `import producer` costs next to nothing.
    if name == "Client":
        from producer.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
