#!/usr/bin/env python3
"""A home's readings, the same for the same seed: line-protocol bodies and the right answers to the queries.

    workload.py --size S|M [--out DIR] [--seed 1]

S is 10 devices for 7 days, M 10 devices for 60 days; each writes six fields every 10 s. Bodies hold 5 000 lines, all
devices of a tick together, in time order. OUT/SIZE/000000.lp ..., OUT/SIZE/meta.json (sizes, and per query the number
of values of the answer and their sum). Standard library only.
"""
import argparse
import array
import json
import math
import multiprocessing
import os
import random

START_S = 1_780_272_000  # 2026-06-01T00:00:00Z
STEP_S = 10
DAY_ROWS = 86_400 // STEP_S
BODY_LINES = 5_000
SIZES = {"S": (10, 7), "M": (10, 60)}
FIELDS = ["battery_soc", "battery_temp", "pv_power", "grid_power", "consumption", "price"]
SOURCES = ["inverter", "meter", "gateway"]


def prices(days, seed):
    """PLN/kWh with four decimals, one per quarter of an hour: two peaks a day and a dip at noon."""
    rng = random.Random(f"{seed}/price")
    out = []
    for _ in range(days):
        level = rng.uniform(0.85, 1.2)
        for quarter in range(96):
            h = quarter / 4
            base = (0.55 + 0.35 * math.exp(-(((h - 7.5) / 1.6) ** 2)) + 0.55 * math.exp(-(((h - 19.5) / 2) ** 2))
                    - 0.35 * math.exp(-(((h - 13) / 2.5) ** 2)))
            out.append(round(min(max(base * level + rng.gauss(0, 0.03), -0.05), 2.5), 4))
    return out


def loads(rng, rows, days):
    """Watts of what is switched on and off: kettle, washing, car."""
    extra = array.array("d", bytes(8 * rows))
    for per_day, watts, seconds in ((6, 2000, 180), (2, 2500, 2400), (0.5, 7200, 5400)):
        for _ in range(round(per_day * days)):
            begin, power = rng.randrange(rows), watts * rng.uniform(0.8, 1.1)
            for row in range(begin, min(rows, begin + int(seconds / STEP_S * rng.uniform(0.5, 1.5)) + 1)):
                extra[row] += power
    return extra


def device(job):
    """Columns of one device: soc and temperature with one decimal, powers in whole watts."""
    number, days, seed = job
    rng = random.Random(f"{seed}/{number}")
    rows = days * DAY_ROWS
    peak_w, base_w, capacity_wh = rng.uniform(4000, 9000), rng.uniform(150, 400), rng.uniform(5000, 15000)
    fridge_phase = rng.randrange(3600)
    switched = loads(rng, rows, days)
    soc, temp, pv, grid, use = (array.array("d", bytes(8 * rows)) for _ in range(5))
    charge, battery_w, warmth, cloud, drift, day_light = rng.uniform(30, 60), 0.0, 0.0, 0.5, 0.0, 1.0
    minute_net = 0.0
    for row in range(rows):
        t = row * STEP_S
        hour = t % 86_400 / 3600
        if row % DAY_ROWS == 0:
            day_light = rng.uniform(0.45, 1.05)
        if t % 300 == 0:
            drift = 0.89 * drift + rng.gauss(0, 0.45)
            cloud = 1 / (1 + math.exp(-(drift * 2 + 1)))
        sun = math.sin(math.pi * (hour - 4.5) / 16) ** 1.3 if 4.5 < hour < 20.5 else 0.0
        shade = min(max(cloud * day_light, 0.03), 1.0)
        made = round(peak_w * sun * shade * (1 + 0.01 * rng.gauss(0, 1))) if sun > 0 else 0
        fridge = 90 if (t + fridge_phase) % 3600 < 1200 else 0
        evening = 250 * math.exp(-(((hour - 19.5) / 2) ** 2))
        used = round(max(base_w + fridge + evening + switched[row] + 6 * rng.gauss(0, 1), 20))
        minute_net += (made - used) / 6
        if row % 6 == 5:  # the battery's controller works once a minute
            battery_w = min(max(minute_net, -3000.0), 3000.0)
            if (battery_w > 0 and charge >= 100) or (battery_w < 0 and charge <= 10):
                battery_w = 0.0
            charge = min(max(charge + battery_w / 60 / capacity_wh * 100, 8.0), 100.0)
            warmth = 0.983 * warmth + abs(battery_w) / 400 / 60
            minute_net = 0.0
        pv[row], use[row], grid[row] = made, used, round(used - made + battery_w)
        soc[row] = round(charge, 1)
        temp[row] = round(20 + 4 * math.sin(2 * math.pi * (hour - 9) / 24) + warmth + rng.gauss(0, 0.03), 1)
    return soc, temp, pv, grid, use


def buckets(values, width, take):
    return [take(values[i:i + width]) for i in range(0, len(values), width)]


def mean(values):
    return math.fsum(values) / len(values)


def answers(columns, price, days):
    """Query -> [values in the answer, their sum]. The queries are spelt out in systems.py."""
    rows, hour = days * DAY_ROWS, 360
    last_row = [column[-1] for column in columns[0]] + [price[-1]]
    pv3 = columns[3][2]
    hourly = [mean_ for device_ in columns for column in [*device_, price] for mean_ in buckets(column, hour, mean)]
    daily = [take for device_ in columns for pick in (max, min) for take in buckets(device_[3], DAY_ROWS, pick)]
    minutes = [mean_ for device_ in columns for mean_ in buckets(device_[3][rows - DAY_ROWS:], 6, mean)]
    low = sum(soc < 20 and now > 0.8 for device_ in columns for soc, now in zip(device_[0], price))
    lists = {"last": last_row, "raw_24h": pv3[rows - DAY_ROWS:], "hourly_1": buckets(pv3, hour, mean),
             "hourly_60": hourly, "daily_min_max": daily, "filter": [low], "minute_24h": minutes}
    return {name: [len(values), math.fsum(values)] for name, values in lists.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--out", default="peers-data")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    devices, days = SIZES[arguments.size]
    rows = days * DAY_ROWS
    quarters = prices(days, arguments.seed)
    price = array.array("d", (quarters[row * STEP_S // 900] for row in range(rows)))
    with multiprocessing.Pool() as pool:
        columns = pool.map(device, [(number, days, arguments.seed) for number in range(devices)])

    folder = os.path.join(arguments.out, arguments.size)
    os.makedirs(folder, exist_ok=True)
    heads = [f"energy_data,data_source={SOURCES[d % 3]},device_id=dev{d:03},location=site{d // 2:02} " for d in range(devices)]
    lines, bodies, sent = [], 0, 0

    def body():
        nonlocal lines, bodies, sent
        text = "".join(lines).encode()
        with open(os.path.join(folder, f"{bodies:06}.lp"), "wb") as file:
            file.write(text)
        lines, bodies, sent = [], bodies + 1, sent + len(text)

    for row in range(rows):
        stamp, now = (START_S + row * STEP_S) * 1_000_000_000, price[row]
        for head, (soc, temp, pv, grid, use) in zip(heads, columns):
            lines.append(f"{head}battery_soc={soc[row]:.1f},battery_temp={temp[row]:.1f},pv_power={pv[row]:.0f},"
                         f"grid_power={grid[row]:.0f},consumption={use[row]:.0f},price={now:.4f} {stamp}\n")
        if len(lines) >= BODY_LINES:
            body()
    if lines:
        body()
    meta = {"size": arguments.size, "seed": arguments.seed, "devices": devices, "days": days, "bodies": bodies,
            "start_s": START_S, "end_s": START_S + days * 86_400, "rows": rows * devices,
            "values": rows * devices * len(FIELDS), "line_protocol_bytes": sent,
            "answers": answers(columns, price, days)}
    with open(os.path.join(folder, "meta.json"), "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
    print(json.dumps({key: value for key, value in meta.items() if key != "answers"}))


if __name__ == "__main__":
    main()
