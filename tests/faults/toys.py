"""Mills whose workers run the toy: a model that starts at once, and dies, hangs or fails where its input says so."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mill import Mill, mill

TOY = "toy"
FOLDER = Path(__file__).parent / "toy"
PIPELINE = '[pipelines.toy]\ntask = "sentiment-analysis"\nmodel = "nobody/toy"\n'


@contextmanager
def toy_mill(
    folder: Path, *, database_url: str, redis_url: str, slice_jobs: int = 16, **settings: str
) -> Iterator[Mill]:
    """A mill for the pipeline `TOY`; a worker's `TOY_…` variables say what else it does (see `toy/`)."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "batchmill.toml").write_text(f"slice_jobs = {slice_jobs}\n{PIPELINE}")  # clients read it, too
    with mill(folder, database_url=database_url, redis_url=redis_url, **settings) as ours:
        path = os.pathsep.join(filter(None, (str(FOLDER), ours.environment.get("PYTHONPATH"))))
        ours.environment |= {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        yield ours


def numbered(count: int) -> list[str]:
    """As many different texts, all of one length."""
    return [f"number {place:06}" for place in range(count)]


def json_lines(texts: list[str]) -> bytes:
    """A file of inputs."""
    return "".join(f'"{text}"\n' for text in texts).encode()


def check_outputs(ours: Mill, batch_id: str, texts: list[str]) -> None:
    """Every text has the answer that it has in an undisturbed run."""
    assert ours.outputs(batch_id) == [{"text": text, "length": len(text)} for text in texts]


def ledger(path: Path) -> Counter[str]:
    """How often each text went through the model of whoever has this TOY_LEDGER."""
    return Counter(path.read_text().splitlines() if path.exists() else ())
