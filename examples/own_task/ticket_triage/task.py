"""What submitters send and get. Producers import this module, so it must not import torch or transformers."""

from pydantic import Field

from batchmill import Parameters, Task, TaskInput, Text


class Ticket(TaskInput):
    """One ticket."""

    body: Text = Field(description="The ticket's text; HTML is allowed, and hashtags are read as words.")
    subject: Text | None = Field(default=None, description="The line above it.")


class TriageParameters(Parameters):
    """What a batch may set."""

    min_score: float = Field(default=0.0, ge=0, le=1, description="Topics below this score are given as null.")
    all_scores: bool = Field(default=False, description="Also give the score of every topic and mood.")


TICKET_TRIAGE = Task(
    name="ticket-triage",
    summary="Name the topic and the mood of a support ticket.",
    adapter="ticket_triage.adapter:TicketTriage",
    input=Ticket,
    parameters=TriageParameters,
    output='{"topic": text or null, "topic_score": number, "mood": text, "mood_score": number}',
    example_input={"subject": "Parcel", "body": "<p>My parcel is late again. #StillWaiting</p>"},
    example_output={"topic": "delivery", "topic_score": 0.98, "mood": "angry", "mood_score": 0.95},
)
