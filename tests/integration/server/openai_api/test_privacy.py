"""Nothing of an input or a parameter is in a response, a log or a batch's errors, also where it is refused."""

import json

import pytest
from structlog.testing import capture_logs

from tests.fake_worker import end_batch, write_results
from tests.integration.server.openai_api.conftest import Door, request_line

SECRET = "canary-5d1c"
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": SECRET}]
HOSTILE_BODIES = (
    {"model": "text-generation", "messages": SECRET},
    {"model": "text-generation", "messages": [{"role": SECRET, "content": "x"}]},
    {"model": "text-generation", "messages": [{"role": "user", "content": [{"type": SECRET}]}]},
    {"model": "text-generation", "messages": MESSAGES, "stop": [7, SECRET]},
    {"model": "text-generation", "messages": MESSAGES, "temperature": SECRET},
    {"model": "text-generation", "messages": MESSAGES, "seed": SECRET},
    {"model": "text-generation", "messages": MESSAGES, "tools": [SECRET]},
    {
        "model": "text-generation",
        "messages": [{"role": "user", "content": SECRET}],
        "response_format": {"type": SECRET},
    },
)


@pytest.mark.parametrize("body", HOSTILE_BODIES)
def test_a_refused_line_is_not_quoted(sqlite_door: Door, body: dict[str, object]) -> None:
    with capture_logs() as logs:
        batch = sqlite_door.create(request_line("a", CHAT, **body), endpoint=CHAT)

    assert batch.status == "failed"
    shown = sqlite_door.http.get(f"/v1/batches/{batch.id}").text
    assert SECRET not in shown + json.dumps(logs, default=str)


def test_what_is_not_json_is_not_quoted(sqlite_door: Door) -> None:
    with capture_logs() as logs:
        batch = sqlite_door.create(f'{{"custom_id": "{SECRET}'.encode(), endpoint=CHAT)

    assert SECRET not in sqlite_door.http.get(f"/v1/batches/{batch.id}").text + json.dumps(logs, default=str)


def test_only_the_output_file_has_the_output(sqlite_door: Door) -> None:
    with capture_logs() as logs:
        batch = sqlite_door.create(request_line("a", text=SECRET))
        write_results(sqlite_door.database, batch.id, [(0, {"label": SECRET, "score": 0.5})])
        end_batch(sqlite_door.database, batch.id)
        output_id = sqlite_door.openai.batches.retrieve(batch.id).output_file_id
        content = sqlite_door.openai.files.content(output_id).text

    assert content.count(SECRET) == 1
    lists = [sqlite_door.http.get(f"/v1/{path}").text for path in ("files", "batches", f"files/{output_id}")]
    assert SECRET not in "".join(lists) + json.dumps(logs, default=str)
