"""The task ticket-triage: the topic and the mood of a support ticket."""
