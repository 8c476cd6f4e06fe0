"""Where one acts on what needs attention."""

from collections.abc import Callable, Mapping
from urllib.parse import quote

from producer.activity.attention import Attention


def address_of(item: Attention) -> str:
    """Return the address of the page about the subject of an item."""
    return ADDRESSES[item.subject](quote(item.name, safe=""))


ADDRESSES: Mapping[str, Callable[[str], str]] = {
    "batch": lambda name: f"/batches/{name}",
    "batches": lambda _: "/batches",
    "schedule": lambda name: f"/schedules/{name}",
    "schedules": lambda _: "/schedules",
    "pipeline": lambda name: f"/pipelines/{name}",
    "pipelines": lambda _: "/pipelines",
    "workers": lambda _: "/workers",
    "maintenance": lambda _: "/workers#maintenance",
    "doctor": lambda _: "/doctor",
}
