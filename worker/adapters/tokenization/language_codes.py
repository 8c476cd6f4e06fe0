"""Languages: what a multilingual translator's tokenizer calls them, and which a batch asks for."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import JobError, ModelError

# `translation_xx_to_yy` names the two languages; a bare "translation" or a longer name does not.
TASK_NAME_PARTS = 4
# NLLB's kind of code, a language and a script; its tokenizer has no list of them.
NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
# Of NLLB's 202 not all: every row of a batch would bring them along.
MAX_LISTED_CODES = 110

LanguagePair = tuple[str, str]


class LanguageCodes:
    """Of a tokenizer that builds translation inputs; every other one takes any text and no language."""

    def __init__(self, tokenizer: Any, task: str) -> None:
        """Raises ModelError where a model needs languages and has none."""
        self.required = task.startswith("translation") and hasattr(tokenizer, "_build_translation_inputs")
        self._token_ids = _language_token_ids(tokenizer) if self.required else {}
        if self.required and not self._token_ids:
            raise ModelError("this tokenizer wants languages and knows none; take another model")
        parts = task.split("_")
        self._task_languages = (parts[1], parts[3]) if len(parts) == TASK_NAME_PARTS else (None, None)

    def pair_for(self, parameters: Mapping[str, Any]) -> LanguagePair | None:
        """Source and target for a batch, None where the model takes none; raises JobError where one is not known.

        As the pipeline does: those in the task's name count where the parameters have neither.
        """
        if not self.required:
            return None
        given = (parameters.get("src_lang"), parameters.get("tgt_lang"))
        source, target = given if any(code is not None for code in given) else self._task_languages
        if source is None or target is None:
            raise JobError(
                "missing_language", f"this model needs src_lang and tgt_lang; it knows {self._known_codes()}"
            )
        for name, code in (("src_lang", source), ("tgt_lang", target)):
            if code not in self._token_ids:
                raise JobError("unknown_language", f"{name} {code!r} is not among this model's: {self._known_codes()}")
        return source, target

    def token_id(self, code: str) -> int:
        """The token that a text in this language begins with."""
        return self._token_ids[code]

    def _known_codes(self) -> str:
        codes = sorted(self._token_ids)
        more = f" and {len(codes) - MAX_LISTED_CODES} more" if len(codes) > MAX_LISTED_CODES else ""
        return ", ".join(codes[:MAX_LISTED_CODES]) + more


def _language_token_ids(tokenizer: Any) -> dict[str, int]:
    """Without those that its vocabulary lacks: 4.57 would silently write in the language of the unknown word."""
    listed = getattr(tokenizer, "lang_code_to_id", None)
    if not listed:
        codes = filter(NLLB_CODE.fullmatch, map(str, tokenizer.extra_special_tokens))
        listed = {code: tokenizer.convert_tokens_to_ids(code) for code in codes}
    return {code: number for code, number in listed.items() if number not in (None, tokenizer.unk_token_id)}
