"""The summarization task shortens a text."""

from models.tasks.spec import TaskSpec, TextField
from models.tasks.text_to_text import TextToTextParameters


class SummarizationParameters(TextToTextParameters):
    """Parameters of `pipeline("summarization")` in transformers 4.57."""


SUMMARIZATION = TaskSpec(
    name="summarization",
    aliases=(),
    summary="Summarize texts with an encoder-decoder model, such as BART or T5.",
    fields=(TextField("text", "The text to summarize."),),
    parameters=SummarizationParameters,
    is_random=SummarizationParameters.is_random,
    output_description='[{"summary_text": text}]; as many as num_return_sequences',
    example_input={"text": "The harbour of Rivermouth was the largest of its age. In 1644 a fire burned it down."},
    example_output=[{"summary_text": "Rivermouth's harbour burned in 1644."}],
)
