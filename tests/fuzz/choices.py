"""What a target draws from the bytes that a fuzzer gives it: the same bytes, the same draws."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

# Of every class that the word cutter tells apart, white space and line ends of all kinds among
# them; each byte of a drawn text is one, so that a fuzzer need not find out about UTF-8.
PALETTE = (
    " \n\t\r\x0b\x0c\x1c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\u200b\u200c\u200d\u00ad\ufeff"
    "abcdeghikmnorstwxyzABCDIJMNORSTXYZßøæđİıſǅΣςσéñ"
    "0123456789²½Ⅷ٣१０"
    "'’-.,_/@:!?…;()[]{}<>\"“”»`~#&*+=|\\^$€£₿%‰°−±"
    "\u0301\u0308\u20d0\ufe0f\ufe0e\U000e0067\U000e007f"
    "漢字一のはアイーｱ、。，！กขคລქဂខ가अআ"
    "😀👍❤🏽👩🇩🇪🇫☎"
    "\ud800\udfff\ue000\U00010348\U0010ffff\x00\x01\x7f"
)


class Choices:
    """Draws from bytes, in order; where none are left, the least of each kind."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """A number from 0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, low: int, high: int) -> int:
        """A number from `low` to `high`, of two bytes."""
        return low + (self.byte() << 8 | self.byte()) % (high - low + 1)

    def pick(self, among: Sequence[T]) -> T:
        """One of some things."""
        return among[self.byte() % len(among)]

    def is_left(self) -> bool:
        """True while bytes are left."""
        return self._at < len(self._data)

    def rest(self) -> bytes:
        """All bytes that are left."""
        rest, self._at = self._data[self._at :], len(self._data)
        return rest

    def rest_text(self) -> str:
        """All bytes that are left as text: of the palette, or UTF-8, lone surrogates included."""
        if self.byte() % 2:
            return "".join(PALETTE[byte % len(PALETTE)] for byte in self.rest())
        rest = self.rest()
        try:
            return rest.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return rest.decode("utf-8", "replace")
