"""Which item of a queue is a wakeup, and what is said of the others."""

import base64
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from worker.process import wakeup_messages
from worker.process.wakeup_messages import InvalidWakeup, RejectionLog

EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
TASK = {"callbacks": [{"task": "os.system"}]}


def coded(body: object) -> str:
    return base64.b64encode(body if isinstance(body, bytes) else json.dumps(body).encode()).decode()


def item(arguments: object = ("p",), *, body: object = None, headers: Any = None, **changed: Any) -> bytes:
    """One of ours, but for what is named."""
    plain = wakeup_messages.build_message("p")
    plain["body"] = coded([arguments, {}, EMBED] if body is None else body)
    plain["headers"] = {**plain["headers"], **(headers or {})}
    return json.dumps({**plain, **changed}).encode()


class TestRead:
    def test_what_is_made_here_is_read_here(self) -> None:
        message = json.dumps(wakeup_messages.build_message("p")).encode()

        wakeup_messages.check_wakeup(message, "p")

    @pytest.mark.parametrize("more", [[1], ["1; DROP TABLE jobs"], [10**30], [{"a": [1]}, None], [0] * 1000])
    def test_what_follows_the_name_does_not_matter(self, more: list[object]) -> None:
        wakeup_messages.check_wakeup(item(["p", *more]), "p")

    @pytest.mark.parametrize(
        "headers", [{"retries": 9}, {"reply_to": "x"}, {"id": "1" * 99}, {"argsrepr": "\x1b[2J"}, {"compression": None}]
    )
    def test_what_nobody_reads_does_not_matter(self, headers: dict[str, Any]) -> None:
        wakeup_messages.check_wakeup(item(headers=headers), "p")

    @pytest.mark.parametrize(
        ("forged", "reason"),
        [
            (b"", "not JSON"),
            (b"garbage", "not JSON"),
            (b"\x80\x04\x95", "not JSON"),
            (b"[" * 10_000, "not JSON"),
            (b'{"a":' * 3000, "not JSON"),
            (b"9" * 5000, "not JSON"),
            (b"[]", "not a Celery message"),
            (b"null", "not a Celery message"),
            (b'{"body": "x"}', "not a Celery message"),
            (item(properties=None), "not a Celery message"),
            (item(properties=[]), "not a Celery message"),
            (b'{"headers": 1, "properties": {}}', "not a Celery message"),
            (item(headers={"task": "os.system"}), "another task"),
            (item(headers={"task": "celery.backend_cleanup"}), "another task"),
            (item(headers={"task": ["batchmill.wakeup"]}), "another task"),
            (item(headers={"compression": "application/x-gzip"}), "headers that a wakeup never has"),
            (item(headers={"eta": "2036-01-01T00:00:00+00:00"}), "headers that a wakeup never has"),
            (item(headers={"expires": 1}), "headers that a wakeup never has"),
            (item(headers={"timelimit": [0.01, 0.01]}), "headers that a wakeup never has"),
            (item(**{"content-type": "application/x-python-serialize"}), "encoded in another way"),
            (item(**{"content-type": "nonsense/at-all"}), "encoded in another way"),
            (item(**{"content-encoding": "base64"}), "encoded in another way"),
            (item(**{"content-encoding": {"a": 1}}), "encoded in another way"),
            (item(properties={"body_encoding": "rot13"}), "encoded in another way"),
            (item(body=b"\xff\xfe"), "another body"),
            (json.dumps({**json.loads(item()), "body": 1}).encode(), "another body"),
            (json.dumps({**json.loads(item()), "body": "?"}).encode(), "another body"),
            (item(body=[]), "other arguments"),
            (item(body={}), "other arguments"),
            (item([]), "other arguments"),
            (item("p"), "other arguments"),
            (item({"p": 1}), "other arguments"),
            (item([1, "p"]), "other arguments"),
            (item([["p"], 1]), "other arguments"),
            (item(body=[["p", 1], {"x": 1}, EMBED]), "other arguments"),
            (item(body=[["p", 1], {}, TASK]), "other arguments"),
            (item(body=[["p", 1], {}, {"chord": {"task": "x"}}]), "other arguments"),
            (item(["q", 1]), "another pipeline"),
            (item(headers={"pad": "x" * wakeup_messages.MAX_MESSAGE_BYTES}), "too long"),
        ],
    )
    def test_anything_else_is_refused_by_a_word_of_ours(self, forged: bytes, reason: str) -> None:
        with pytest.raises(InvalidWakeup, match=f"^{reason}$"):
            wakeup_messages.check_wakeup(forged, "p")


class TestRefusals:
    def test_the_first_is_logged_at_once_and_a_flood_in_one_line_later(self) -> None:
        refusals = RejectionLog()

        with capture_logs() as logged:
            for number in range(5000):
                refusals.record("not JSON" if number % 2 else "too long", number / 5000)
            refusals.report_if_due(wakeup_messages.LOG_INTERVAL_SECONDS - 0.1)
            before = len(logged)
            refusals.report_if_due(wakeup_messages.LOG_INTERVAL_SECONDS)
            refusals.report_if_due(wakeup_messages.LOG_INTERVAL_SECONDS * 9)

        assert before == 1
        assert [line["count"] for line in logged] == [1, 4999]
        assert logged[1]["reasons"] == {"not JSON": 2500, "too long": 2499}
