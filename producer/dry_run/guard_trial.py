"""Which guards will read a submission, and how many of its first rows the rules among them would catch."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Self

from models.guards.definition import Guard
from models.guards.rules import GuardRules
from models.guards.texts import collect_texts

# A dry run must stay quick; the rules of the worst guards read about a million characters a second.
MAX_ROWS, MAX_CHARACTERS = 1_000, 4_000_000
MAX_SECONDS = 5.0  # of processor time for all rows; the last one may go beyond it


class TrialEnd(Enum):
    """Why a trial ends before the last input."""

    FULL = auto()  # enough was read
    SLOW = auto()  # the rules take too long for all inputs
    FAILED = auto()  # a rule took too long for one input, the last that was read


@dataclass(slots=True)
class GuardTrial:
    """Reads the first inputs by the rules of a pipeline's input guards; models are not tried.

    rows: inputs that were read
    caught: how many of them each guard caught; a guard after one that blocked an input did not read it
    end: why later inputs will not be read, None = they will
    """

    guards: Mapping[str, Guard]
    rules: GuardRules
    rows: int = 0
    characters: int = 0
    caught: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    end: TrialEnd | None = None

    @classmethod
    def for_guards(cls, guards: Mapping[str, Guard]) -> Self:
        """Return a trial of a pipeline's guards."""
        return cls(guards, GuardRules(guards, "input"))

    def add(self, documents: Iterable[str]) -> None:
        """Read inputs, given as the JSON that is stored, up to the bounds."""
        if not self.rules:
            return
        for document in documents:
            self.end = self.end or self._reached_bound(document)  # for good: the rows that were read stay the first
            if self.end is not None:
                return
            self.rows += 1
            self.characters += len(document)
            self._read(collect_texts(json.loads(document)))

    def is_tried(self, guard: str) -> bool:
        """Whether the guard is a rule that reads inputs."""
        definition = self.guards[guard]
        return definition.on == "input" and definition.pipeline is None

    def as_list(self) -> list[dict[str, Any]]:
        """The guards in `submit --dry-run --json`, in the order in which they run."""
        return [
            {
                "guard": name,
                "on": guard.on,
                "action": guard.action,
                "rows_read": self.rows if self.is_tried(name) else None,
                "rows_caught": self.caught[name] if self.is_tried(name) else None,
            }
            for name, guard in self.guards.items()
        ]

    def _reached_bound(self, document: str) -> TrialEnd | None:
        if self.rows >= MAX_ROWS or self.characters + len(document) > MAX_CHARACTERS:
            return TrialEnd.FULL
        return TrialEnd.SLOW if self.seconds >= MAX_SECONDS else None

    def _read(self, texts: list[str]) -> None:
        start = time.thread_time()
        readings, error = self.rules.read(texts)
        if error is not None:
            self.end = TrialEnd.FAILED
            return
        self.seconds += time.thread_time() - start
        self.caught.update(name for name, found in readings.items() if any(reading.caught for reading in found))
