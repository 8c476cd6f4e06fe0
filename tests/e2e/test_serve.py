"""`batchmill serve` as a process: how it starts, what it refuses, and how it ends."""

import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner, Result

import batchmill
from models.packages import SERVER_PACKAGES
from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, temporary_deployment, wait_for

TLS = Path(__file__).parents[1] / "factories" / "tls"


def start(deployment: Deployment, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server; returns it with the address that it prints once it listens."""
    seen = len(deployment.log) if deployment.processes else 0
    process = deployment.start("serve", "--port", "0", *options)

    def address() -> str | None:
        assert process.poll() is None, deployment.log
        found = re.search(r"serving the pages and the API on (\S+),", deployment.log[seen:])
        return found and found[1]

    return process, wait_for(address, "the server's address")


def test_a_server_s_life(tmp_path: Path) -> None:
    with temporary_deployment(tmp_path) as deployment:
        first, address = start(deployment)
        assert httpx2.get(f"{address}/readyz", timeout=WAIT_TIMEOUT_SECONDS).status_code == 200

        second = deployment.run("serve", "--port", "0")
        assert second.returncode == 2
        assert second.stderr.startswith(f"batchmill: another server ({address}, pid {first.pid} on ".encode())
        assert b"set file_store" in second.stderr

        first.kill()
        first.wait()
        third, address = start(deployment)  # a killed server does not stand in the way
        with httpx2.Client() as client:
            client.get(f"{address}/healthz")
            third.send_signal(signal.SIGTERM)
            assert third.wait(WAIT_TIMEOUT_SECONDS) == 0  # an idle connection does not keep it
        assert deployment.query("SELECT * FROM servers") == []

        fourth, _ = start(deployment)
        fourth.send_signal(signal.SIGINT)
        assert fourth.wait(WAIT_TIMEOUT_SECONDS) == 130
        assert "Traceback" not in deployment.log


def test_tls(tmp_path: Path) -> None:
    with temporary_deployment(tmp_path) as deployment:
        process, address = start(deployment, "--tls-cert", str(TLS / "cert.pem"), "--tls-key", str(TLS / "key.pem"))

        assert address.startswith("https://")
        trusted = ssl.create_default_context(cafile=TLS / "cert.pem")
        assert httpx2.get(f"{address}/healthz", verify=trusted, timeout=WAIT_TIMEOUT_SECONDS).status_code == 200
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(address.replace("https", "http") + "/healthz", timeout=WAIT_TIMEOUT_SECONDS)
        process.terminate()
        assert process.wait(WAIT_TIMEOUT_SECONDS) == 0


class TestRefusals:
    def serve(self, *options: str) -> Result:
        result = CliRunner().invoke(batchmill.cli, ["serve", *options])
        assert result.exit_code == 2, result.output
        return result

    def test_a_public_address_without_keys(self) -> None:
        for options in ((), ("--insecure",)):
            assert "batchmill keys create" in self.serve("--host", "0.0.0.0", "--port", "0", *options).stderr

    def test_a_public_address_without_tls(self) -> None:
        assert CliRunner().invoke(batchmill.cli, ["keys", "create", "--tenant", "a"]).exit_code == 0

        assert "--insecure" in self.serve("--host", "0.0.0.0", "--port", "0").stderr

    def test_a_taken_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            assert f"port {port} of 127.0.0.1 is taken" in self.serve("--port", str(port)).stderr

    @pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
    def test_an_address_of_another_machine(self, host: str) -> None:
        assert "--host 127.0.0.1" in self.serve("--host", host, "--port", "0").stderr

    def test_files_that_are_no_certificate(self, tmp_path: Path) -> None:
        (tmp_path / "x.pem").write_text("x")
        cert, key, nothing = str(TLS / "cert.pem"), str(TLS / "key.pem"), str(tmp_path / "nothing.pem")

        assert "TLS needs both" in self.serve("--tls-cert", cert).stderr
        assert "belong together" in self.serve("--tls-cert", cert, "--tls-key", str(tmp_path / "x.pem")).stderr
        assert "nothing.pem" in self.serve("--tls-cert", nothing, "--tls-key", key).stderr

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("models.packages.SERVER_PACKAGES", (*SERVER_PACKAGES, "no_such_package"))

        assert ".[serve]" in self.serve().stderr


def test_the_server_is_light() -> None:
    code = "import sys, producer.server.run; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
