"""`/doctor`: what is broken, and what to do. Its checks take seconds, so the page comes first and asks for them."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from models.errors import TooManyRequests
from producer.health.findings import OK, PROBLEM, WARNING, Finding
from producer.server.context import Context
from producer.server.native.operations import checks
from producer.server.pages.access.visitor import PageAdmin
from producer.server.pages.frame.rendering import render, render_part

router = APIRouter()

LEVELS = (PROBLEM, WARNING, OK)
COMMAND = re.compile(r"batchmill [a-z][^;`]*")


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a finding, and the command in it; None = there is none."""

    text: str
    command: str | None


@router.get("/doctor")
def show_doctor(request: Request, visitor: PageAdmin) -> Response:
    """Show the page, which then loads the findings."""
    checks.require_operator(visitor.principal)
    return render(request, visitor, "operations/doctor.html", is_loading=True, seconds=checks.MAX_DOCTOR_SECONDS)


@router.get("/doctor/findings")
def show_findings(request: Request, context: Context, visitor: PageAdmin) -> Response:
    """Run the checks, and show what they found."""
    checks.require_operator(visitor.principal)
    started = time.monotonic()
    try:
        findings, busy = checks.run_doctor(context), None
    except TooManyRequests as error:
        findings, busy = [], str(error)
    values: dict[str, Any] = {
        "busy": busy,
        "groups": {level: [item for item in findings if item.level == level] for level in LEVELS},
        "advice": read_advice,
        "took": time.monotonic() - started,
        "checked_at": datetime.now(UTC),
        "is_loading": False,
    }
    values["seconds"] = checks.MAX_DOCTOR_SECONDS
    return render_part(request, visitor, "operations/_findings.html", "operations/doctor.html", **values)


def read_advice(finding: Finding) -> Advice | None:
    """Return the advice of a finding with the command that it names, if it is one that can be run as it is."""
    if finding.advice is None:
        return None
    found = COMMAND.findall(finding.advice)
    return Advice(finding.advice, found[-1].strip() if found else None)
