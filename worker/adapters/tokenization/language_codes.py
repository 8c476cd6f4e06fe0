"""Languages: what a multilingual translator's tokenizer calls them, and which a batch asks for."""

import re
from collections.abc import Mapping
from typing import Any

from models.errors import JobError, ModelError

# `translation_xx_to_yy` names the two languages; a bare "translation" or a longer name does not.
PARTS_OF_TASK = 4
# NLLB's kind of code, a language and a script; its tokenizer has no list of them.
LANGUAGE_AND_SCRIPT = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")
# Of NLLB's 202 not all: every row of a batch would bring them along.
SHOWN = 110

Pair = tuple[str, str]


class Languages:
    """Of a tokenizer that builds translation inputs; every other one takes any text and no language."""

    def __init__(self, tokenizer: Any, task: str) -> None:
        """Raises ModelError where a model needs languages and has none."""
        self.wanted = task.startswith("translation") and hasattr(tokenizer, "_build_translation_inputs")
        self._ids = _ids(tokenizer) if self.wanted else {}
        if self.wanted and not self._ids:
            raise ModelError("this tokenizer wants languages and knows none; take another model")
        parts = task.split("_")
        self._named = (parts[1], parts[3]) if len(parts) == PARTS_OF_TASK else (None, None)

    def asked(self, parameters: Mapping[str, Any]) -> Pair | None:
        """Source and target for a batch, None where the model takes none; raises JobError where one is not known.

        As the pipeline does: those in the task's name count where the parameters have neither.
        """
        if not self.wanted:
            return None
        given = (parameters.get("src_lang"), parameters.get("tgt_lang"))
        source, target = given if any(code is not None for code in given) else self._named
        if source is None or target is None:
            raise JobError("missing_language", f"this model needs src_lang and tgt_lang; it knows {self._known()}")
        for name, code in (("src_lang", source), ("tgt_lang", target)):
            if code not in self._ids:
                raise JobError("unknown_language", f"{name} {code!r} is not among this model's: {self._known()}")
        return source, target

    def id(self, code: str) -> int:
        """The token that a text in this language begins with."""
        return self._ids[code]

    def _known(self) -> str:
        codes = sorted(self._ids)
        more = f" and {len(codes) - SHOWN} more" if len(codes) > SHOWN else ""
        return ", ".join(codes[:SHOWN]) + more


def _ids(tokenizer: Any) -> dict[str, int]:
    """Without those that its vocabulary lacks: 4.57 would silently write in the language of the unknown word."""
    listed = getattr(tokenizer, "lang_code_to_id", None)
    if not listed:
        codes = filter(LANGUAGE_AND_SCRIPT.fullmatch, map(str, tokenizer.extra_special_tokens))
        listed = {code: tokenizer.convert_tokens_to_ids(code) for code in codes}
    return {code: number for code, number in listed.items() if number not in (None, tokenizer.unk_token_id)}
