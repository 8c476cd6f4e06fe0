"""A result as the source of a row; its documents are parsed when a name needs them."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.documents import from_json
from producer.readers.kept_input import says_cut
from producer.readers.results.dotted_names import COLUMNS, DOCUMENTS, KEPT_IN_PART
from producer.readers.rows import Origin
from producer.readers.storable import UnreadableValue

VECTOR = UnreadableValue("is a vector, and no text")
TOO_DEEP = UnreadableValue("is nested too deeply to be read")


class ResultRecord(Mapping[str, Any]):
    """The columns of one result by name; an output that is a vector can't be read as a text, nor a cut input."""

    __slots__ = ("_unparsed", "_values", "size_bytes")

    def __init__(self, values: dict[str, Any]) -> None:
        """Take the columns, of which documents are JSON text or None, `has_vector` and `invalid`."""
        self._values = values
        self._unparsed = {name for name in DOCUMENTS if values[name] is not None}
        self.size_bytes = sum([len(values[name]) for name in self._unparsed])  # the other columns are short
        if values["has_vector"]:
            values["output"] = VECTOR
        if values["invalid"] and says_cut(values["error_message"] or ""):
            self._unparsed.discard("input")
            values["input"] = KEPT_IN_PART

    @property
    def origin(self) -> Origin:
        """The job whose result this is."""
        return Origin(self._values["batch_id"], self._values["position"])

    def __getitem__(self, name: str) -> Any:
        if name in self._unparsed:
            self._unparsed.discard(name)
            try:
                self._values[name] = from_json(self._values[name])
            except RecursionError:
                self._values[name] = TOO_DEEP
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)
