"""Valid files made wrong in their bytes, or in what texts say; `binary_mutations` has binary formats.

Each function takes a source of random numbers and a valid file, and gives another one. A few changes at once,
most of them small: what is wrong everywhere is refused at the first look.
"""

import copy
import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

# Values that some reader does not expect where they are put.
_NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    255,
    1.5,
    0.0,
    -0.0,
    1e300,
    -1e300,
    1e-320,
    2**31,
    2**53 + 1,
    2**63,
    -(2**64),
)
TEXTS = (
    "",
    " ",
    "x",
    "nan",
    "-1",
    "../x",
    ".",
    "/",
    "a,b",
    "a\nb",
    "\0",
    "\ud800",
    "é",
    "x" * 300,
)
_NAMES = ("gaussian", "unet", "vdm", "unet_experts", "hific", "linear", "learned_network", "packed")
_RAW = (
    "NaN",
    "Infinity",
    "1e999",
    "9" * 400,
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 90 + "1" + "}" * 90,
)
_MARK = "@raw{}@"
_DOUBLE = "@twice@"


def several(rng: random.Random, data: Any, change: Callable[[random.Random, Any], Any]) -> Any:
    """One to three changes, rather few."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = change(rng, data)
    return data


def in_bytes(rng: random.Random, data: bytes) -> bytes:
    """A file with other bytes: flipped, overwritten, left out, put in, moved or cut off."""
    return several(rng, data, _change_bytes)


def _change_bytes(rng: random.Random, data: bytes) -> bytes:
    # The beginnings of files say most.
    reach = rng.choice((64, 512, len(data) + 1))
    at = rng.randrange(max(1, min(reach, len(data) + 1)))
    size = rng.choice((1, 1, 2, 4, 8, 30))
    kind = rng.randrange(8)
    if kind == 0:
        return (
            data[:at] + bytes(b ^ 1 << rng.randrange(8) for b in data[at : at + 1]) + data[at + 1 :]
        )
    if kind == 1:
        return data[:at] + rng.randbytes(size) + data[at + size :]
    if kind == 2:
        return data[:at] + data[at + size :]
    if kind == 3:
        return data[:at] + rng.randbytes(size) + data[at:]
    if kind == 4:
        return data[:at]
    if kind == 5:
        return data[:at] + rng.choice((b"\0", b"\xff", b"\x7f")) * size + data[at + size :]
    if kind == 6:
        number = rng.choice((0, 1, 255, 2**15, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1))
        width = rng.choice([n for n in (1, 2, 4, 8) if number < 256**n])
        return (
            data[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]
        )
    other = rng.randrange(max(1, len(data)))
    return data[:at] + data[other : other + rng.choice((size, len(data)))] + data[at + size :]


def in_json(rng: random.Random, data: bytes) -> bytes:
    """A text of JSON with other types, keys, numbers or depths, and now and then other bytes."""
    if rng.random() < 0.1:
        return in_bytes(rng, data)
    raw: list[str] = []
    value = several(rng, json.loads(data), lambda rng, value: _change_value(rng, value, raw))
    text = json.dumps(value, allow_nan=False)
    for number, one in enumerate(raw):
        text = text.replace(f'"{_MARK.format(number)}"', one)
    return text.replace(_DOUBLE, "").encode()


def in_json_lines(rng: random.Random, data: bytes) -> bytes:
    """Lines of JSON, one of them changed or its neighbours joined."""
    lines = data.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = in_json(rng, lines[at])
    return rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"")).join(lines) + rng.choice((b"\n", b""))


def _change_value(rng: random.Random, value: Any, raw: list[str]) -> Any:
    """A copy of a value with one change at a random place."""
    places: list[tuple[Any, Any]] = []

    def visit(one: Any) -> None:
        for key, part in one.items() if isinstance(one, dict) else enumerate(one):
            places.append((one, key))
            if isinstance(part, dict | list):
                visit(part)

    value = copy.deepcopy(value)
    visit(root := [value])
    group, key = rng.choice(places)
    kind = rng.random()
    if group is root or kind < 0.7:
        group[key] = _strange(rng, group[key], places, raw)
    elif kind < 0.8:
        del group[key]
    elif isinstance(group, dict):
        name = str(key) + _DOUBLE if kind < 0.9 else rng.choice((*TEXTS, *group))
        group[name] = group[key]
    else:
        group.insert(key, group[key])
    return root[0]


def _strange(rng: random.Random, old: Any, places: list[tuple[Any, Any]], raw: list[str]) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(_NUMBERS)
    if kind == 2:
        return rng.choice((*TEXTS, *_NAMES))
    if kind == 3:
        return rng.choice(([], {}, [old], {"a": old}, [[old]]))
    if kind == 4:
        raw.append(rng.choice(_RAW))
        return _MARK.format(len(raw) - 1)
    if kind == 5:
        group, key = rng.choice(places)
        return copy.deepcopy(group[key])
    if isinstance(old, bool | None) or (isinstance(old, int | float) and kind == 6):
        return rng.choice(_NUMBERS)
    if isinstance(old, int | float):
        return rng.choice((str(old), -old, old + 1, old + 1000, old / 3))
    if isinstance(old, str):
        return rng.choice((old + "x", old[:-1], old * 50, len(old)))
    return dict(enumerate(old)) if isinstance(old, list) else list(old.values())


def in_csv(rng: random.Random, data: bytes) -> bytes:
    """A table with other cells, rows or columns."""
    if rng.random() < 0.1:
        return in_bytes(rng, data)
    rows = several(rng, list(csv.reader(io.StringIO(data.decode()))), _change_table)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode(errors="surrogatepass")


def _change_table(rng: random.Random, rows: list[list[str]]) -> list[list[str]]:
    if not rows or not any(rows):
        return [["x"]]
    row = rng.randrange(len(rows))
    kind = rng.randrange(8)
    if kind == 0:
        return rows[:row] + rows[row + 1 :]
    if kind == 1:
        return rows[: row + 1] + rows[row:]
    if kind == 2:
        column = rng.randrange(max(map(len, rows)))
        return [one[:column] + one[column + 1 :] for one in rows]
    cells = (
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 30,
        "9" * 5000,
        "1_0",
        "y" * 140_000,
        '"',
        "#",
        "1.5",
    )
    column = rng.randrange(max(1, len(rows[row])))
    strange = str(rng.choice(_NUMBERS)) if kind == 3 else rng.choice((*TEXTS, *cells))
    changed = [*rows[row][:column], strange, *rows[row][column + 1 :]]
    return [*rows[:row], changed, *rows[row + 1 :]]


def in_arguments(rng: random.Random, data: bytes) -> bytes:
    """Lines of --FLAG.FIELD=VALUE with another field or value."""

    def change(rng: random.Random, lines: list[str]) -> list[str]:
        at = rng.randrange(len(lines))
        name, _, value = lines[at].partition("=")
        parts = name.split(".")
        kind = rng.randrange(5)
        values = (
            "",
            "()",
            "None",
            "True",
            "(1,'x')",
            "1e400",
            "nan",
            "[1",
            "{'a': 1}",
            "9" * 5000,
            "(" * 99,
        )
        if kind == 0:
            parts[rng.randrange(len(parts))] = rng.choice(
                (*TEXTS, *_NAMES, "train", "seed", "eval")
            )
        elif kind == 1:
            parts.pop()
        elif kind == 2:
            value = str(rng.choice(_NUMBERS))
        elif kind == 3:
            value = rng.choice((*values, *TEXTS, *_NAMES))
        else:
            value = in_bytes(rng, value.encode(errors="surrogatepass")).decode("latin1")
        line = ".".join(parts) + rng.choice(("=", "=", "=", "=", "")) + value
        return [*lines[:at], line.replace("\n", " "), *lines[at + 1 :]]

    lines = several(rng, data.decode().splitlines(), change)
    return "\n".join(lines).encode(errors="surrogatepass")
