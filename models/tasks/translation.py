"""The translation task rewrites a text in another language."""

from pydantic import Field

from models.tasks.spec import TaskSpec, TextField
from models.tasks.text_to_text import TextToTextParameters

LANGUAGE_CODE_PATTERN = r"^[A-Za-z0-9_-]{1,40}$"


class TranslationParameters(TextToTextParameters):
    """Parameters of `pipeline("translation")` in transformers 4.57."""

    src_lang: str | None = Field(
        default=None,
        pattern=LANGUAGE_CODE_PATTERN,
        description="The texts' language, as a multilingual model (mBART, NLLB, M2M100) calls it; others need none.",
    )
    tgt_lang: str | None = Field(
        default=None,
        pattern=LANGUAGE_CODE_PATTERN,
        description="The language to translate into, as a multilingual model calls it; others need none.",
    )


TRANSLATION = TaskSpec(
    name="translation",
    aliases=(),
    summary="Translate texts with an encoder-decoder model, such as Marian, T5, mBART or NLLB.",
    fields=(TextField("text", "The text to translate."),),
    parameters=TranslationParameters,
    is_random=TranslationParameters.is_random,
    output_description='[{"translation_text": text}]; as many as num_return_sequences',
    example_input={"text": "The river is in the city."},
    example_output=[{"translation_text": "Der Fluss ist in der Stadt."}],
    # The two codes select T5's prefix, and the languages of a model that names them by code.
    variant_pattern=r"translation_[A-Za-z0-9-]{1,20}_to_[A-Za-z0-9-]{1,20}",
)
