"""`batchmill up`: the whole system on one machine, as a new user meets it."""

import json
import re
import signal
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil

from tests.deployment import PIPELINE, WAIT_TIMEOUT_SECONDS, random_texts, temporary_deployment, wait_for
from tests.faults.fake_model import replace_models
from tests.servers import free_port


def write_jsonl(path: Path, inputs: list[str]) -> None:
    path.write_text("".join(json.dumps({"id": f"r{place}", "text": text}) + "\n" for place, text in enumerate(inputs)))


def is_healthy(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/healthz", timeout=WAIT_TIMEOUT_SECONDS).status_code == 200
    except httpx2.HTTPError:  # the server ended between the connection and the answer
        return False


def server_of(up_pid: int) -> psutil.Process | None:
    for child in psutil.Process(up_pid).children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "serve" in child.cmdline():
                return child
    return None


def test_a_batch_submitted_while_nothing_runs_is_worked_through_when_up_starts_and_ctrl_c_ends_it_all(
    tmp_path: Path,
) -> None:
    inputs = random_texts(300)
    write_jsonl(tmp_path / "reviews.jsonl", inputs)
    with temporary_deployment(tmp_path) as deployment:
        submitted = deployment.run("submit", "reviews.jsonl", "--pipeline", PIPELINE)
        batch_id = submitted.stdout.decode().strip()
        assert submitted.returncode == 0
        assert b"batchmill up --pipelines" in submitted.stderr

        up = deployment.start("up")
        waited = deployment.run("wait", batch_id, "--timeout", "180")
        results = deployment.run("results", batch_id, "-o", "out.jsonl")
        workers = json.loads(deployment.invoke("workers", "--json").stdout)["data"]
        family = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)

        assert up.wait(WAIT_TIMEOUT_SECONDS) == 130
        assert waited.returncode == 0, waited.stderr
        assert results.returncode == 0
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [row["custom_id"] for row in rows] == [f"r{place}" for place in range(300)]
        assert [row["input"]["text"] for row in rows] == inputs
        assert {row["output"]["label"] for row in rows} <= {"POSITIVE", "NEGATIVE"}
        assert {row["revision"] for row in rows} == {workers[0]["revision"]}
        assert len(family) == 3  # the embedded Valkey, the process that keeps it, and a worker
        _, alive = psutil.wait_procs(family, timeout=WAIT_TIMEOUT_SECONDS)
        assert alive == []
        assert deployment.invoke("workers", "--json").stdout.decode().count('"pid"') == 0
        assert not (tmp_path / "home" / "valkey.sock").exists()


def test_a_killed_up_takes_everything_with_it_and_the_next_one_starts(tmp_path: Path) -> None:
    with temporary_deployment(tmp_path) as deployment:
        replace_models(deployment)
        up = deployment.start("up", BATCHMILL_SERVE_PORT=str(free_port()))
        deployment.wait_for_workers()
        address = re.search(r"web page and HTTP API: (\S+)", deployment.log)[1]
        assert is_healthy(address)
        server = server_of(up.pid)
        server.kill()
        server.wait(WAIT_TIMEOUT_SECONDS)
        wait_for(lambda: is_healthy(address) and server_of(up.pid), "a new server at the same address")
        family = psutil.Process(up.pid).children(recursive=True)

        up.kill()

        _, alive = psutil.wait_procs(family, timeout=WAIT_TIMEOUT_SECONDS)
        assert alive == []
        deployment.start("up")
        deployment.wait_for_workers()


def test_a_second_up_names_the_first_one_and_down_ends_it(tmp_path: Path) -> None:
    with temporary_deployment(tmp_path) as deployment:
        replace_models(deployment)
        up = deployment.start("up", "--log-file", "up.log")
        deployment.wait_for_workers()
        family = psutil.Process(up.pid).children(recursive=True)
        second, down, again = deployment.run("up"), deployment.run("down"), deployment.invoke("down")

        assert (second.returncode, down.returncode, again.returncode) == (2, 0, 0)
        assert f"`batchmill up` (pid {up.pid}) runs already".encode() in second.stderr
        assert f"stopping `batchmill up` (pid {up.pid})".encode() in down.stderr
        assert b"nothing was stopped" in again.stderr
        assert up.wait(WAIT_TIMEOUT_SECONDS) == 0
        _, alive = psutil.wait_procs(family, timeout=WAIT_TIMEOUT_SECONDS)
        assert alive == []
        assert f"pid {up.pid}; Ctrl-C or `batchmill down` stops it\nlog: {tmp_path / 'up.log'}\n" in deployment.log
        events = [json.loads(line)["event"] for line in (tmp_path / "up.log").read_text().splitlines()]
        assert {"supervisor.started", "child.started", "valkey.started", "worker.stopped"} <= set(events)
