"""Read YAML into plain data that knows its lines.

Three things differ from a plain `yaml.safe_load`:

* scalars follow YAML 1.2: `02:00` and `no` are text, `0600` is not an octal number;
* duplicate keys, cycles, alias bombs, tags and second documents are refused, with their place;
* it works on the parser's events and not on its nodes: PyYAML composes nodes recursively, and in its
  C form a file of brackets ends the process with a segmentation fault (PyYAML 6.0.3, 2026-11-21).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events as ev

from keyturn.domain.inventory_findings import Finding
from keyturn.domain.inventory_secrets import (
    REFERENCES_ONLY,
    Path,
    looks_secret,
    names_a_secret,
    secret_places,
)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: Of an inventory's file. 10,000 credentials are 3 MB; more than this is a wrong file.
MOST_BYTES = 10_000_000
# The inventory nests six deep; beyond this somebody plays with us.
_MAX_DEPTH = 40
# Values after aliases are expanded. An inventory of 10,000 credentials has 150,000.
_MAX_EXPANDED = 400_000

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAYBE_WORD = frozenset("~nNtTfF")
_MAYBE_NUMBER = frozenset("0123456789+-.")
_PLAIN_TAGS = frozenset({None, "!", *(f"tag:yaml.org,2002:{t}" for t in ("str", "map", "seq"))})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Broken:
    """Stands where a value could not be read; the finding about it is already written."""


BROKEN = _Broken()


@dataclass(slots=True)
class Document:
    """What was read: plain data, the lines of its parts, and what was wrong with the YAML itself."""

    data: Any = None
    findings: list[Finding] = field(default_factory=list)
    #: False: reading stopped in the middle, and `data` is not worth looking at.
    complete: bool = False
    lines: dict[int, dict[str | int, int]] = field(default_factory=dict)
    first_line: int = 1

    def line(self, path: Path) -> int:
        """Give the line of the nearest part of the path that is in the file."""
        here, line = self.data, self.first_line
        for part in path:
            lines = self.lines.get(id(here))
            if lines is None or part not in lines:
                break
            line, here = lines[part], here[part]
        return line

    def value(self, path: Path) -> Any:
        """Give the value at a path, or None."""
        here = self.data
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read."""

    value: Any
    lines: dict[str | int, int]
    #: Where it hangs in its parent; None at the top and under a key that was refused.
    at: str | int | None
    size: int = 1
    key: str | None = None
    key_line: int = 0


class _StopReadingError(Exception):
    """Reading on makes no sense."""

    def __init__(self, wrong: str, write: str, line: int) -> None:
        super().__init__(wrong)
        self.wrong, self.write, self.line = wrong, write, line


def read(text: str) -> Document:
    """Read one YAML document. Never raises: what is wrong stands in `findings`."""
    document = Document()
    try:
        _Reader(text, document).run()
        document.complete = True
    except _StopReadingError as e:
        document.findings.append(Finding((), e.wrong, e.write, line=e.line))
    except yaml.MarkedYAMLError as e:
        document.findings.append(_unreadable(text, e))
    except (yaml.YAMLError, UnicodeError):
        document.findings.append(
            Finding((), "a character that YAML does not allow", "save the file as plain UTF-8 text", line=1)
        )
    return document


class _Reader:
    """Builds data from events, with a stack of its own in place of recursion."""

    def __init__(self, text: str, document: Document) -> None:
        self.loader = _Loader(text)
        self.document = document
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.sizes: dict[int, int] = {}
        #: Every scalar, for the search for secrets.
        self.seen: list[str] = []
        #: The names of those fields that hold a scalar.
        self.named: set[str] = set()
        self.size = 0

    def run(self) -> None:
        """Read everything.

        Raises:
            _StopReadingError: the text cannot be an inventory.
            yaml.YAMLError: the text is not YAML.
        """
        documents = 0
        while (event := self.loader.get_event()) is not None:
            kind = type(event)
            if kind is ev.ScalarEvent:
                self.scalar(event)
            elif kind in (ev.MappingStartEvent, ev.SequenceStartEvent):
                self.begin(event, kind)
            elif kind in (ev.MappingEndEvent, ev.SequenceEndEvent):
                self.end()
            elif kind is ev.AliasEvent:
                self.alias(event)
            elif kind is ev.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _StopReadingError(
                        "a second document begins here", "write one document: remove the `---`", _line(event)
                    )
        self._look_for_secrets()

    def path(self) -> Path:
        """Give the path of what is being read now."""
        parts = [f.at for f in self.stack if f.at is not None]
        if self.stack:
            top = self.stack[-1]
            here = top.key if isinstance(top.value, dict) else len(top.value)
            parts += [] if here is None else [here]
        return tuple(parts)

    def report(self, wrong: str, write: str, event: Any) -> None:
        self.document.findings.append(Finding(self.path(), wrong, write, line=_line(event)))

    def scalar(self, event: Any) -> None:
        value = event.value
        self.seen.append(value)
        if self.awaits_key():
            self.set_key(value, event)
            return
        if event.tag not in _PLAIN_TAGS:
            self.report("a tag is not understood here", "write the plain value without `!`", event)
            value = BROKEN
        elif event.implicit[0] and event.tag is None:
            value = _resolve(value)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, 1)
        if self.stack and (key := self.stack[-1].key) is not None:
            self.named.add(key)
        self.put(value, 1, event)

    def awaits_key(self) -> bool:
        """Whether the next thing is the key of a mapping."""
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def set_key(self, name: str, event: Any) -> None:
        top = self.stack[-1]
        line = _line(event)
        if name == "<<":
            top.key = name
            self.report(
                "merge keys (`<<`) are not part of YAML 1.2", "write the fields out, or use defaults", event
            )
        elif name in top.value:
            top.key = name
            first = top.lines[name]
            self.report(f"named a second time (first on line {first})", "write it once", event)
        top.key, top.key_line = name, line

    def put(self, value: Any, size: int, event: Any) -> None:
        """Hang a value into what is being read."""
        self.count(size, event)
        if not self.stack:
            self.document.data = value
            self.document.first_line = _line(event)
            return
        top = self.stack[-1]
        top.size += size
        if isinstance(top.value, list):
            top.lines[len(top.value)] = _line(event)
            top.value.append(value)
            return
        if top.key is not None and top.key not in top.value and top.key != "<<":
            top.value[top.key] = value
            top.lines[top.key] = top.key_line
        top.key = None

    def count(self, size: int, event: Any) -> None:
        self.size += size
        if self.size > _MAX_EXPANDED:
            raise _StopReadingError(
                f"more than {_MAX_EXPANDED:,} values, aliases counted where they are used",
                "write fewer aliases, or several inventories",
                _line(event),
            )

    def begin(self, event: Any, kind: type) -> None:
        if self.awaits_key():
            raise _StopReadingError(
                "a name must be plain text", "write `name:`, without brackets", _line(event)
            )
        if len(self.stack) >= _MAX_DEPTH:
            raise _StopReadingError("nested too deeply", "write it flatter", _line(event))
        if event.tag not in _PLAIN_TAGS:
            self.report("a tag is not understood here", "write the plain value without `!`", event)
        value: Any = {} if kind is ev.MappingStartEvent else []
        at: str | int | None = None
        if self.stack:
            top = self.stack[-1]
            at = top.key if isinstance(top.value, dict) else len(top.value)
        lines: dict[str | int, int] = {}
        self.put(value, 1, event)
        self.document.lines[id(value)] = lines
        if event.anchor is not None:
            # Size 0 marks it as open: an alias to it from inside is a cycle.
            self.anchors[event.anchor] = (value, 0)
        self.stack.append(_Frame(value, lines, at))

    def end(self) -> None:
        done = self.stack.pop()
        self.sizes[id(done.value)] = done.size
        if self.stack:
            # Its own 1 was counted when it began.
            self.stack[-1].size += done.size - 1

    def alias(self, event: Any) -> None:
        if self.awaits_key():
            raise _StopReadingError("a name must be plain text", "write the name out", _line(event))
        if event.anchor not in self.anchors:
            self.report("an alias without its anchor", "write `&name` before `*name`, or the value", event)
            self.put(BROKEN, 1, event)
            return
        value, size = self.anchors[event.anchor]
        if any(frame.value is value for frame in self.stack):
            self.report("an alias that contains itself", "write the value out in place of the alias", event)
            self.put(BROKEN, 1, event)
            return
        self.put(value, size or self.sizes.get(id(value), 1), event)

    def _look_for_secrets(self) -> None:
        """Find secrets and control characters: one search over all text, places only when it hits."""
        everything = "\n".join(self.seen)
        if looks_secret(everything) or any(map(names_a_secret, self.named)):
            self.document.findings += (
                Finding(path, wrong, REFERENCES_ONLY) for path, wrong in secret_places(self.document.data)
            )
        if _CONTROL.search(everything):
            raise _StopReadingError("a control character in a quoted value", "write printable text", 1)


def _resolve(text: str) -> Any:
    """Read a plain scalar by YAML 1.2's core schema, decimal numbers only."""
    if not text or text[0] in _MAYBE_WORD:
        return _WORDS.get(text, text)
    if text[0] in _MAYBE_NUMBER and _NUMBER.fullmatch(text):
        return int(text) if _INTEGER.fullmatch(text) else float(text)
    return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _unreadable(text: str, error: yaml.MarkedYAMLError) -> Finding:
    """Say why the text is not YAML, in our words: the parser's may quote the file."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Finding((), "this is not YAML", "check quotes and indentation", line=1)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    problem = (error.problem or "").lower()
    if "\t" in line[: len(line) - len(line.lstrip())]:
        wrong, write = "a tab in the indentation", "write spaces"
    elif "start any token" in problem:
        wrong, write = "a value begins with a character that YAML reserves", "write the value in quotes"
    elif "mapping values are not allowed" in problem:
        wrong, write = "a colon where none can be", "write a value that contains `: ` in quotes"
    elif (
        "end of stream" in problem
        or "did not find expected '," in problem
        or "quoted scalar" in (error.context or "")
    ):
        wrong, write = "a quote or bracket is not closed", "close it, or write the value in quotes"
    elif "anchor" in problem:
        wrong, write = "an anchor is given twice", "give each anchor a name of its own"
    elif "key" in problem:
        wrong, write = "no `:` after a name", "write `name: value`"
    else:
        wrong, write = "this is not YAML", "check quotes, brackets and indentation here and above"
    return Finding((), wrong, write, line=mark.line + 1)
