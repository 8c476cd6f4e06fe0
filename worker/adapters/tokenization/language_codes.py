"""The language codes of a multilingual translation model, and the pair that a batch asks for."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import JobError, ModelError

TASK_NAME_PARTS = 4  # of `translation_xx_to_yy`; other task names contain no languages
NLLB_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")  # language and script; NLLB's tokenizer has no list of codes
MAX_LISTED_CODES = 110  # NLLB has 202, too many to repeat in the error of every job

LanguagePair = tuple[str, str]


class LanguageCodes:
    """The codes of a tokenizer that builds translation inputs; no other tokenizer requires languages."""

    def __init__(self, tokenizer: Any, task: str) -> None:
        """Raises ModelError when languages are required and the tokenizer has no codes."""
        self.required = task.startswith("translation") and hasattr(tokenizer, "_build_translation_inputs")
        self._token_ids = _language_token_ids(tokenizer) if self.required else {}
        if self.required and not self._token_ids:
            raise ModelError("this tokenizer requires language codes but has none; take another model")
        parts = task.split("_")
        self._task_languages = (parts[1], parts[3]) if len(parts) == TASK_NAME_PARTS else (None, None)

    def pair_for(self, parameters: Mapping[str, Any]) -> LanguagePair | None:
        """Return source and target for a batch, None = the model takes no languages.

        As in the pipeline, the languages of the task's name apply when the parameters have neither. Raises JobError
        `missing_language` or `unknown_language`.
        """
        if not self.required:
            return None
        params = (parameters.get("src_lang"), parameters.get("tgt_lang"))
        source, target = params if any(code is not None for code in params) else self._task_languages
        if source is None or target is None:
            raise JobError(
                "missing_language", f"this model needs src_lang and tgt_lang; its codes are {self._list_codes()}"
            )
        for name, code in (("src_lang", source), ("tgt_lang", target)):
            if code not in self._token_ids:
                raise JobError("unknown_language", f"{name} {code!r} is not among this model's: {self._list_codes()}")
        return source, target

    def token_id(self, code: str) -> int:
        """Return the token that a text in this language begins with."""
        return self._token_ids[code]

    def _list_codes(self) -> str:
        codes = sorted(self._token_ids)
        more = f" and {len(codes) - MAX_LISTED_CODES} more" if len(codes) > MAX_LISTED_CODES else ""
        return ", ".join(codes[:MAX_LISTED_CODES]) + more


def _language_token_ids(tokenizer: Any) -> dict[str, int]:
    """Leave out codes missing from the vocabulary: 4.57 silently translates them into the unknown token's language."""
    token_ids = getattr(tokenizer, "lang_code_to_id", None)
    if not token_ids:
        codes = filter(NLLB_CODE.fullmatch, map(str, tokenizer.extra_special_tokens))
        token_ids = {code: tokenizer.convert_tokens_to_ids(code) for code in codes}
    return {code: token_id for code, token_id in token_ids.items() if token_id not in (None, tokenizer.unk_token_id)}
