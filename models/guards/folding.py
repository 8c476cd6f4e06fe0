"""Folding: one spelling for characters that people read as the same, and the way back to the text's own offsets."""

import unicodedata

# Characters that are not read: zero-width ones, soft hyphens, marks of direction, variation selectors and tags.
INVISIBLE = frozenset((0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0)).union(
    range(0x180B, 0x1810),
    range(0x200B, 0x2010),
    range(0x202A, 0x202F),
    range(0x2060, 0x2070),
    range(0xFE00, 0xFE10),
    range(0xE0000, 0xE1000),
)
OVERLAYS = range(0x0334, 0x0339)  # strokes through a letter, which stays readable
MINUS_SIGN = 0x2212
NO_OVERLAYS = dict.fromkeys(OVERLAYS)  # a table for `str.translate`
DOTLESS_I = 0x0131  # "I" is the capital of it, too
MAX_TABLE_CHARACTERS = 50_000  # texts of all scripts have fewer; a text of all characters fills no memory


class Folding(dict[int, str]):
    """A table for `str.translate` that fills itself.

    Invisible characters and strokes through others vanish, digits of all scripts become 0 to 9, all dashes "-" and all
    spaces " ". Letters of other widths and fonts become plain, and accents characters of their own.

    ignore_case: whether "Straße" and "STRASSE" are equal.
    """

    def __init__(self, ignore_case: bool) -> None:
        super().__init__()
        self._ignore_case = ignore_case

    def __missing__(self, code: int) -> str:
        spelling = self._fold(code)
        if len(self) < MAX_TABLE_CHARACTERS:
            self[code] = spelling
        return spelling

    def _fold(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if code in INVISIBLE:
            return ""
        if digit is not None:
            return str(digit)
        if character.isspace():
            return character if character.isascii() else " "
        if unicodedata.category(character) == "Pd" or code == MINUS_SIGN:
            return "-"
        if code == DOTLESS_I and self._ignore_case:
            return "i"
        spelling = unicodedata.normalize("NFKD", character).translate(NO_OVERLAYS)
        return unicodedata.normalize("NFKD", spelling.casefold()) if self._ignore_case else spelling

    def origins(self, text: str) -> list[int]:
        """For each character of the folded text: the offset of the character that it comes from."""
        return [index for index, character in enumerate(text) for _ in self[ord(character)]]


IGNORE_CASE = Folding(ignore_case=True)
KEEP_CASE = Folding(ignore_case=False)
