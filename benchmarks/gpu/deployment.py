"""A deployment on SQLite and the embedded Valkey, for the stages that submit batches."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models import schema
from tests.deployment import Deployment

PIPELINE = "bench"


@contextmanager
def temporary_deployment(home: Path, model: Path, dtype: str, settings: Mapping[str, str]) -> Iterator[Deployment]:
    """Yield a deployment whose catalogue has one sentiment model as `bench`; its tables exist."""
    home.mkdir(parents=True)
    config = home / "batchmill.toml"
    config.write_text(f'[pipelines.{PIPELINE}]\ntask = "sentiment-analysis"\nmodel = "{model}"\ndtype = "{dtype}"\n')
    for name in [name for name in os.environ if name.startswith("BATCHMILL_")]:
        del os.environ[name]
    os.environ.update({"BATCHMILL_HOME": str(home), "BATCHMILL_CONFIG": str(config), **settings})
    schema.upgrade(f"sqlite:///{home / 'batchmill.db'}")
    deployment = Deployment(home, dict(os.environ))
    try:
        yield deployment
    finally:
        deployment.close()
