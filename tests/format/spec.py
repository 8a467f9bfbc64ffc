"""What format-spec.md says in code blocks: worked examples as bytes, test vectors as values and bytes."""

import pathlib
import re

from wattformat import blocks

SPEC = pathlib.Path(__file__).resolve().parents[2] / "format-spec.md"
KINDS = {"times": "times", "integers": "integer", "unsigned": "unsigned", "floats": "float", "booleans": "boolean",
         "strings": "string", "string_ids": "string_ids", "presence": "presence"}


def fences(word):
    """(rest of the info line, body) of each fenced block whose info starts with `word`."""
    text = SPEC.read_text(encoding="utf-8")
    return [(info.strip(), body) for info, body in re.findall(rf"^```{word}\b([^\n]*)\n(.*?)^```$", text, re.M | re.S)]


def hex_example(name):
    """Bytes of `hex <name>`, whose lines are offset, bytes, two blanks, words; lines left out are zeros."""
    [body] = [body for info, body in fences("hex") if info == name]
    data = bytearray()
    for line in body.splitlines():
        offset, _, rest = line.partition("  ")
        piece = bytes.fromhex(rest.partition("  ")[0])
        at = int(offset, 16)
        assert at >= len(data), line
        data += bytes(at - len(data)) + piece
    return bytes(data)


def vectors(word):
    """(info, codec, count, {key: text}) of each `vector` or `refused` block."""
    found = []
    for info, body in fences(word):
        parts = dict(part.split("=") for part in info.split())
        lines = dict(line.partition(":")[::2] for line in body.splitlines())
        name = f"{info} {lines.get('because', lines['bytes'])[:60]}"
        found.append((name, parts["codec"], int(parts["count"]), lines))
    return found


def values_of(codec, text):
    """The values of a vector, in the form in which `blocks.decode` gives them."""
    values = []
    for word in re.findall(r'"[^"]*"(?:\*\d+)?|\S+', text):
        word, _, times = word.rpartition("*") if re.search(r"\*\d+$", word) else (word, "", "1")
        start, _, step = word.partition("~")
        for index in range(int(times)):
            values.append(_value(codec, start, int(step) * index if step else 0))
    return values


def _value(codec, word, add):
    if codec == "floats":
        return int(word, 16) if word.startswith("0x") else blocks.float_bits(float(word))
    if codec == "booleans":
        return {"true": True, "false": False}[word]
    if codec == "strings":
        return word[1:-1]
    return int(word) + add
