"""Requests made up from the OpenAPI document, and what is wrong with their responses.

`python -m tests.api_fuzzer --examples 200` (or `make fuzz-api`) makes many; the suite makes a few.
"""

import argparse
import itertools
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from models import log, schema
from models.db import Database
from models.settings import Settings
from producer.server import openapi_document
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.http_server import app_over

BATCH_ID = "batch_0000000000000000000f"

# Checks that need several requests, or that judge how strictly a request is read.
LEFT_OUT_CHECKS = {
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "positive_data_acceptance",
    "negative_data_rejection",
    "object_level_authorization",
}
MAX_WAIT_SECONDS = 0.05
ENDLESS = "/api/follow"  # each request takes until schemathesis cuts it off


def find_problems(app: FastAPI, examples: int) -> list[str]:
    """Make requests to every operation of an application; return what is wrong with each operation and its response."""
    load_all_checks()
    document = schemathesis.openapi.from_asgi(openapi_document.DOCUMENT_PATH, app)
    problems = []
    for result in document.get_all_operations():
        operation = result.ok()
        if operation.path == ENDLESS:
            continue
        for mode in GenerationMode:
            try:
                _try_operation(operation, mode, examples)
            except Unsatisfiable:  # nothing that could be sent contradicts the document
                continue
            except (Exception, FailureGroup) as error:
                problems.append(f"{operation.method.upper()} {operation.path} ({mode.value}): {error}")
    return problems


def seed(database: Database) -> None:
    """Insert a batch with results that has ended, so that requests find one."""
    insert_batch(database, 3, id=BATCH_ID, pipeline="sample-sentiment-analysis")
    output = {"label": "POSITIVE", "score": 0.5}
    fake_worker.write_results(database, BATCH_ID, [(0, output), (1, "model_error"), (2, output)])
    fake_worker.end_batch(database, BATCH_ID)


def _try_operation(operation: APIOperation, mode: GenerationMode, examples: int) -> None:
    checks = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT_CHECKS]
    numbers = itertools.count()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attempt(case: Case) -> None:
        _steer(case, next(numbers))
        case.call_and_validate(checks=checks)

    attempt()


def _steer(case: Case, number: int) -> None:
    """Let half of the requests find a batch, and none wait for long."""
    if number % 2 and case.path_parameters and "batch_id" in case.path_parameters:
        case.path_parameters["batch_id"] = BATCH_ID
    for name in ("timeout", "timeout_seconds"):
        if case.query and isinstance(case.query.get(name), int | float):
            case.query[name] = min(case.query[name], MAX_WAIT_SECONDS)


def main() -> None:
    """Make many requests over SQLite, and exit with the problems that they find."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="requests per operation and kind")
    arguments = parser.parse_args()
    log.configure(Settings(log_level="error"))
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'fuzz.db'}"
        schema.upgrade(url)
        with closing(Database(url)) as database:
            seed(database)
            problems = find_problems(app_over(database, url, home=Path(folder)), arguments.examples)
    sys.exit("\n\n".join(problems) or None)


if __name__ == "__main__":
    main()
