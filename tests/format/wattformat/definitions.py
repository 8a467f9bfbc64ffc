"""Definitions: what ids mean (format-spec.md section 4, "Definitions", and section 9, "Schema").

Invariant: an id means the same for ever; a definition that says otherwise is damage, but for the unit and kind of a
field, where the last one counts.
"""

from dataclasses import dataclass

from .binary import FIELD_TYPES, Damage
from .segment import read_tags

NAMESPACE, MEASUREMENT, FIELD, SERIES, MEANING = range(1, 6)


@dataclass
class FieldDefinition:
    id: int
    measurement: int
    name: str
    type: str
    unit: str = ""
    kind: int = 0


class Names:
    def __init__(self):
        self.namespaces = {}  # id -> (database, policy)
        self.measurements = {}  # id -> (namespace, name)
        self.fields = {}  # id -> FieldDefinition
        self.series = {}  # id -> (measurement, tags)

    def add(self, definition):
        kind, number, *rest = definition
        if kind == MEANING:
            self.set_meaning(number, *rest)
        elif kind == FIELD:
            measurement, name, type_name = rest
            known = self.fields.setdefault(number, FieldDefinition(number, measurement, name, type_name))
            if (known.measurement, known.name, known.type) != (measurement, name, type_name):
                raise Damage(f"field {number} is {known} and {rest}")
        else:
            table = {NAMESPACE: self.namespaces, MEASUREMENT: self.measurements, SERIES: self.series}[kind]
            if table.setdefault(number, tuple(rest)) != tuple(rest):
                raise Damage(f"id {number} of kind {kind} is {table[number]} and {rest}")

    def set_meaning(self, number, unit, kind):
        if number not in self.fields:
            raise Damage(f"a meaning of field {number}, which is not defined")
        self.fields[number].unit, self.fields[number].kind = unit, kind

    def current_fields(self):
        """Ids of fields whose names speak of them: of one name in a measurement, the newest id."""
        newest = {}
        for number, entry in self.fields.items():
            key = entry.measurement, entry.name
            newest[key] = max(number, newest.get(key, 0))
        return set(newest.values())


def read_definitions(cursor):
    """A list with its count: (kind, id, ...) of each."""
    found = []
    for _ in range(cursor.varint()):
        kind, number = cursor.u8(), cursor.varint()
        if number == 0 or number >> 32:
            cursor.refuse(f"id {number}")
        if kind == NAMESPACE:
            rest = [cursor.text(), cursor.text()]
        elif kind == MEASUREMENT:
            rest = [cursor.varint(), cursor.text()]
        elif kind == FIELD:
            measurement, type_name = cursor.varint(), _type(cursor)
            rest = [measurement, cursor.text(), type_name]
        elif kind == SERIES:
            rest = [cursor.varint(), tuple(read_tags(cursor))]
        elif kind == MEANING:
            kind_of_field, unit = cursor.u8(), cursor.text()
            if kind_of_field > 2 or not is_unit(unit):
                cursor.refuse(f"unit {unit!r}, kind {kind_of_field}")
            rest = [unit, kind_of_field]
        else:
            cursor.refuse(f"definition of kind {kind}")
        found.append((kind, number, *rest))
    return found


def is_unit(text):
    return len(text.encode()) <= 64 and not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in text)


def _type(cursor):
    number = cursor.u8()
    if number not in FIELD_TYPES:
        cursor.refuse(f"field type {number}")
    return FIELD_TYPES[number]
