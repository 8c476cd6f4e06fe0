"""The official client over a real connection, as a user has it."""

import json
import socket
import threading
from contextlib import closing

import uvicorn
from openai import OpenAI

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.server.context import ServerContext
from tests.factories.http_server import patient_app
from tests.fake_worker import end_batch, write_results
from tests.integration.server.openai_api.conftest import request_line

ENDPOINT = "/v1/pipelines/sentiment-analysis"


def test_a_batch_over_a_connection(sqlite_url: str) -> None:
    database, settings = Database(sqlite_url), Settings.load()
    app = patient_app(ServerContext(settings, database, Catalogue.load(settings)))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            lines = "\n".join(json.dumps(request_line(f"é{number}")) for number in range(3))
            file = client.files.create(file=("in.jsonl", lines.encode()), purpose="batch")
            batch = client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")  # type: ignore[arg-type]
            write_results(database, batch.id, [(number, {"label": "é", "score": 0.5}) for number in range(3)])
            end_batch(database, batch.id)

            output_id = client.batches.retrieve(batch.id).output_file_id
            assert output_id is not None
            content = client.files.content(output_id)

            assert [json.loads(line)["custom_id"] for line in content.text.splitlines()] == ["é0", "é1", "é2"]
            with client.files.with_streaming_response.content(output_id) as streamed:
                assert b"".join(streamed.iter_bytes(7)) == content.content
    finally:
        server.should_exit = True
        thread.join()
        with closing(database):
            listener.close()
