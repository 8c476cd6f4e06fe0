"""The options of a submission from Python, as its caller gave them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How a batch runs and which columns its rows have; `Client.submit` describes each."""

    parameters: Mapping[str, Any] | None = None
    name: str | None = None
    metadata: Mapping[str, str] | None = None
    priority: int = 0
    on_invalid: str = "reject"
    deadline: str | None = None
    max_failures: str | int | None = None
    idempotency_key: str | None = None
    input_columns: Mapping[str, str] | None = None
    id_column: str | None = None
    passthrough: str | Iterable[str] = ()
    reuse: bool = False
    webhook_url: str | None = None
    tenant: str | None = None

    def passthrough_columns(self) -> Iterable[str]:
        """The columns to keep; a single one need not be in a list."""
        is_single = isinstance(self.passthrough, str) or not isinstance(self.passthrough, Iterable)
        return (str(self.passthrough),) if is_single else self.passthrough
