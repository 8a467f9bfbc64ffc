"""Points as text: one JSON object a line, in one canonical form and order.

    {"database":"home","policy":"autogen","measurement":"m","tags":[["id","a"]],"time":1,
     "fields":{"pv":["float","406cc33333333333"]}}      (on one line)

Lines rise by database, policy, measurement, tags and time, fields by name; texts compare by code points, which is the
order of their UTF-8 bytes. A float is its 64 bits in hexadecimal, an integer its decimal text, so that nothing is rounded.
"""

import json


def lines(points):
    for database, policy, measurement, tags in sorted(points):
        rows = points[database, policy, measurement, tags]
        for time in sorted(rows):
            fields = {name: [kind, _value(kind, raw)] for name, (kind, raw) in sorted(rows[time].items())}
            yield json.dumps({"database": database, "policy": policy, "measurement": measurement, "tags": tags,
                              "time": time, "fields": fields}, ensure_ascii=False, separators=(",", ":"))


def _value(kind, raw):
    if kind == "float":
        return f"{raw:016x}"
    return str(raw) if kind in ("integer", "unsigned") else raw
