"""Which door a request came through, by its path: programs ask for the API, and browsers for pages. Pure."""

from producer.advice import Door

MACHINE_PATHS = ("/healthz", "/readyz", "/metrics")
MACHINE_ROOTS = ("/api", "/v1")


def is_for_machines(path: str) -> bool:
    """Whether programs ask for a path, which read JSON errors and send keys."""
    return path in MACHINE_PATHS or any(path == root or path.startswith(f"{root}/") for root in MACHINE_ROOTS)


def door_of(path: str) -> Door:
    """Whose words the answer to a request for a path uses."""
    return Door.HTTP if is_for_machines(path) else Door.PAGE
