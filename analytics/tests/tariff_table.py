"""Distribution prices of 2025 and 2026 for every quarter of an hour, written without the rules of the crate.

Prints one line for each quarter: seconds since the epoch, then the price in 1/10000 PLN/kWh of g11, g12, g12w, g12as,
g13s, the Kompas code of the hour (4: not known) and the price of g14dynamic. Standard library only.
"""

import sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

WARSAW = ZoneInfo("Europe/Warsaw")
# One letter for each hour of the clock.
G12 = "nnnnnnnPPPPPPnnPPPPPPPnn"
G12W = "nnnnnnPPPPPPPPPPPPPPPPnn"
G12AS = "nnnnnnnPPPPPPnnnnnnnnnnn"
G13S_SUMMER = "nnnnnnnPPddddddddPPPPnnn"
G13S_WINTER = "nnnnnnnPPPdddddPPPPPPnnn"
# Read off a printed calendar.
HOLIDAYS = set(
    "2025-01-01 2025-01-06 2025-04-20 2025-04-21 2025-05-01 2025-05-03 2025-06-08 2025-06-19 2025-08-15 2025-11-01 "
    "2025-11-11 2025-12-24 2025-12-25 2025-12-26 "
    "2026-01-01 2026-01-06 2026-04-05 2026-04-06 2026-05-01 2026-05-03 2026-05-24 2026-06-04 2026-08-15 2026-11-01 "
    "2026-11-11 2026-12-24 2026-12-25 2026-12-26".split()
)
KOMPAS = [145, 578, 4339, 28931, 578]


def g13s(local):
    if local.isoweekday() >= 6 or local.date().isoformat() in HOLIDAYS:
        return 1100
    if "04-01" <= local.strftime("%m-%d") <= "09-30":
        return {"P": 2900, "d": 1000, "n": 1100}[G13S_SUMMER[local.hour]]
    return {"P": 3400, "d": 2000, "n": 1100}[G13S_WINTER[local.hour]]


def main():
    start = int(datetime(2025, 1, 1, tzinfo=WARSAW).timestamp())
    end = int(datetime(2027, 1, 1, tzinfo=WARSAW).timestamp())
    lines = []
    for second in range(start, end, 900):
        local = datetime.fromtimestamp(second, timezone.utc).astimezone(WARSAW)
        hour = second // 3600
        code = (hour * hour + hour // 7) % 5
        row = [
            second,
            3125,
            3566 if G12[local.hour] == "P" else 749,
            3566 if G12W[local.hour] == "P" else 749,
            3125 if G12AS[local.hour] == "P" else 312,
            g13s(local),
            code,
            KOMPAS[code],
        ]
        lines.append(" ".join(map(str, row)))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
