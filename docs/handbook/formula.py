"""Converts the formulas of the docstrings, which are plain text, to LaTeX.

    y[n, f] = b[f] + sum_{c, p} w[f, c, p] * x[n, c]    becomes    y_{n, f} = b_{f} + \\sum_{c, p} ...

An index in brackets becomes a subscript, `/` a fraction, `//` a floor, and oH the letter o with the subscript H. A word
that is no name stays a word: "sum over the leading axes of".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<name>[A-Za-z]{2,}-[a-z]{2,}|[A-Za-z]\w*'*) | (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)
    | (?P<quoted>"[^"]*")
    | (?P<sign>\.\.\.|<=|>=|!=|//|[-+*/=<>^(){}\[\],:;|._]) | (?P<other>.)""",
    re.VERBOSE,
)
_SIGNS = {
    "*": r"\cdot",
    "<=": r"\le",
    ">=": r"\ge",
    "!=": r"\ne",
    "...": r"\ldots",
    ",": ",\\;",
    ";": ";\\quad",
    ":": ":\\;",
    "|": "|",
}
_FUNCTIONS = {"exp": r"\exp", "log": r"\log", "tanh": r"\tanh", "sinh": r"\sinh", "cosh": r"\cosh", "max": r"\max"}
_NAMED_FUNCTIONS = ("erf", "softmax", "divmod", "range")
_GREEK = {"alpha": r"\alpha", "beta": r"\beta", "eps": r"\varepsilon", "pi": r"\pi", "Phi": r"\Phi"}
# A letter for what an option gives, and the axis: kH is k with the subscript H.
_OF_AN_AXIS = re.compile(r"[a-z][HW]")
# Words that stand where a name may stand.
_WORDS = frozenset({"sum", "that", "source", "in", "mod"})
# After "a" these show that it is an array and no article.
_AFTER_A_NAME = frozenset({"with", "where", "and", "over", "in", "if"})
_CODE = re.compile(r"\bnp\.")


class Item(NamedTuple):
    """A part of a formula: its LaTeX, and its kind. A group has what stands inside its brackets."""

    kind: str
    latex: str
    inside: str = ""


def names_in(lines: Iterable[str], known: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of these formulas: those known, those with an index, and those that are given a value."""
    text = "\n".join(lines)
    found = set(re.findall(r"\b([A-Za-z]\w*)\[", text))
    found |= set(re.findall(r"(?:^|,|  )\s*([A-Za-z][A-Za-z0-9]*) = ", text, re.MULTILINE))
    return frozenset({*found, *known, *(f"d{name}" for name in known)} - _WORDS - set(_FUNCTIONS))


def kept_as_text(line: str) -> bool:
    """Return whether a line is shown as it is: Python, or words without an equation or an inequality."""
    return bool(_CODE.search(line)) or not re.search(r"[=<>*/+]", line)


def latex(line: str, names: frozenset[str]) -> str:
    """Return one formula as LaTeX. Columns, which are three blanks apart, are the caller's to split."""
    return _joined(_Parser(line, names).items(""))


def columns(line: str) -> list[str]:
    """Split a line into its columns, which at least three blanks part. A label in front, "1." or "x:", is one."""
    label = re.match(r"(?:(\d+\.)|([a-z]+:)) ", line)
    parts = re.split(r" {3,}", line[label.end() :].lstrip() if label else line)
    if label is None:
        return parts
    return [f'"{label[1]}"' if label[1] else label[2], *parts]


class _Parser:
    """Reads the tokens of one formula from left to right."""

    def __init__(self, line: str, names: frozenset[str]) -> None:
        self.tokens = [(str(match.lastgroup), match[0]) for match in _TOKEN.finditer(line)]
        self.names, self.at = names, 0

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        """Return a token without taking it. After the last one the kind is `end`."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ("end", "")

    def items(self, closing: str, *, index: bool = False) -> list[Item]:
        """Read up to one of the closing signs, which is taken. In an index products are set close."""
        found: list[Item] = []
        while self.at < len(self.tokens):
            kind, text = self.peek()
            if kind == "sign" and text in closing and closing:
                self.at += 1
                return found
            if kind == "sign" and text in ("/", "//") and found and found[-1].kind in _OPERANDS:
                self.at += 1
                found[-1:] = self._quotient(text, found[-1], found[-2:-1], index=index)
                continue
            item = self._item(index=index)
            if item is not None:
                found.append(item)
        return found

    def _quotient(self, sign: str, above: Item, before: list[Item], *, index: bool) -> list[Item]:
        while self.peek()[0] == "space":
            self.at += 1
        below = self._item(index=index)
        if below is None:
            return [above, Item("sign", "/")]
        parts = f"{above.inside or above.latex}", f"{below.inside or below.latex}"
        function = bool(before) and before[0].kind == "function"  # log p / q is no log of a fraction
        flat = function or below.kind not in _OPERANDS or "\\text" in below.inside
        if sign == "//":
            fraction = f"{above.latex} / {below.latex}" if index or flat else rf"\frac{{{parts[0]}}}{{{parts[1]}}}"
            return [Item("group", rf"\left\lfloor {fraction} \right\rfloor")]
        if index or flat:
            return [above, Item("sign", "/"), below]
        return [Item("operand", rf"\frac{{{parts[0]}}}{{{parts[1]}}}")]

    def _item(self, *, index: bool) -> Item | None:
        kind, text = self.peek()
        self.at += 1
        if kind == "space":
            return None
        if kind == "quoted":
            label = text[1:-1].removesuffix(".").isdigit()
            return Item("text", text[1:-1] if label else f"“{text[1:-1]}”")
        if kind == "number":
            return self._raised(Item("operand", text), index=index)
        if kind == "name":
            return self._named(text, index=index)
        if text in "([":
            items = self.items(")]", index=index)
            inside, closing = _joined(items), self.tokens[self.at - 1][1]
            alone = [each.kind for each in items] == ["operand"] and inside.startswith(r"\frac")
            if alone and self.peek()[1] not in ("^", "'"):  # (1/m) needs no brackets as a fraction
                return Item("operand", inside)
            return self._raised(Item("group", rf"\left{text} {inside} \right{closing}", inside), index=index)
        if index and text in ("*", ","):
            return Item("sign", r"\," if text == "*" else ",")
        return Item("sign", _SIGNS.get(text, text))

    def _named(self, word: str, *, index: bool) -> Item:
        if word in ("floor", "ceil", "sqrt") and self.peek() == ("sign", "("):
            self.at += 1
            inside = _joined(self.items(")", index=index))
            if word == "sqrt":
                return Item("operand", rf"\sqrt{{{inside}}}")
            return Item("operand", rf"\left\l{word} {inside} \right\r{word}")
        if word in _FUNCTIONS or (word == "sum" and self._is_sum()):
            symbol = Item("function", _FUNCTIONS.get(word, r"\sum"))
            return self._call(self._with_index(symbol), index=index)
        head, _, tail = word.partition("_")
        if word in ("sum_", "max_") or (head in ("sum", "max") and tail):
            index_of = f"_{{{self._symbol(tail)}}}" if tail else f"_{{{self._braced()}}}"
            return Item("function", _FUNCTIONS.get(head, r"\sum") + index_of)
        if word in _NAMED_FUNCTIONS:
            return self._call(Item("function", rf"\operatorname{{{word}}}"), index=index)
        if word == "in" and (self._next_word() in _NAMED_FUNCTIONS or self._is_name(self._next_word() or "text")):
            return Item("sign", r"\in")
        if not self._is_name(word):
            return Item("text", word)
        item = self._with_index(Item("operand", self._symbol(word)))
        return self._raised(self._call(item, index=index), index=index)

    def _is_sum(self) -> bool:
        """Whether "sum" is the sign: a word after it makes it a word."""
        word = self._next_word()
        return self.peek() == ("sign", "_") or not word or self._is_name(word)

    def _next_word(self) -> str:
        ahead = 1 if self.peek()[0] == "space" else 0
        kind, text = self.peek(ahead)
        return text if kind == "name" else ""

    def _is_name(self, word: str) -> bool:
        bare, (head, _, tail) = word.rstrip("'"), word.rstrip("'").partition("_")
        if bare == "a":
            after = self._next_word()
            return not after or after in _AFTER_A_NAME or self._is_name(after)
        known = bare in self.names or bare in _GREEK or _OF_AN_AXIS.fullmatch(bare) is not None or len(bare) == 1
        return known or (tail != "" and self._splits(head, tail))

    def _splits(self, head: str, tail: str) -> bool:
        return len(head) == 1 or len(tail) == 1 or head in self.names

    def _symbol(self, word: str) -> str:
        bare = word.rstrip("'")
        primes = word[len(bare) :]
        head, _, tail = bare.partition("_")
        if tail and bare not in self.names and self._splits(head, tail):
            return f"{self._symbol(head)}{primes}_{{{self._symbol(tail)}}}"
        if bare in _GREEK:
            return _GREEK[bare] + primes
        if _OF_AN_AXIS.fullmatch(bare):
            return f"{bare[0]}_{bare[1]}"
        if len(bare) == 1 or bare.isdigit():
            return bare + primes
        if bare[0] == "d" and bare[1:] in self.names | {"x", "y", "z", "h", "r", "s", "w", "b", "a", "L"}:
            return rf"\mathrm{{d}}{self._symbol(bare[1:])}{primes}"
        return rf"\mathit{{{bare}}}{primes}" if "_" not in bare else _text(bare)

    def _with_index(self, item: Item) -> Item:
        """Add the index that stands directly behind a name: x[n, c]."""
        if self.peek() == ("sign", "["):
            self.at += 1
            index = _joined(self.items("]", index=True))
            return Item(item.kind, f"{{{item.latex}}}_{{{index}}}")
        return item

    def _braced(self) -> str:
        while self.peek() != ("sign", "{"):
            self.at += 1
        self.at += 1
        return _joined(self.items("}", index=True))

    def _call(self, item: Item, *, index: bool) -> Item:
        """Add the arguments that stand directly behind a name: exp(x). A power may stand before them."""
        if item.kind == "function" and self.peek() == ("sign", "^"):
            item = self._raised(item, index=index)
        if self.peek() != ("sign", "("):
            return item
        self.at += 1
        inside = _joined(self.items(")", index=index))
        return self._raised(Item("operand", rf"{item.latex}\left( {inside} \right)"), index=index)

    def _raised(self, item: Item, *, index: bool) -> Item:
        if self.peek() != ("sign", "^"):
            return item
        self.at += 1
        power = self._item(index=True)
        above = "" if power is None else power.inside or power.latex
        return Item(item.kind, f"{item.latex}^{{{above}}}")


_OPERANDS = ("operand", "group")


def _joined(items: list[Item]) -> str:
    """Return the items in one line, neighbouring words as one text, a product without a sign with a thin space."""
    return " ".join(_parts(items))


def _parts(items: list[Item]) -> Iterator[str]:
    words: list[str] = []
    before = ""
    for item in items:
        if item.kind == "text":
            words.append(item.latex)
            continue
        if words:
            yield _text(f" {' '.join(words)} ")
            words, before = [], ""
        if before in (*_OPERANDS, "function") and item.kind in (*_OPERANDS, "function"):
            yield r"\,"
        yield item.latex
        before = item.kind
    if words:
        yield _text(f" {' '.join(words)} ")


def _text(words: str) -> str:
    return rf"\text{{{words}}}"
