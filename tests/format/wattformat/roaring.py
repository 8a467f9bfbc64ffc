"""The portable serialization of 32-bit Roaring bitmaps (RoaringFormatSpec), as catalog files use it (7.2)."""

from .binary import Damage

NO_RUNS = 12346
WITH_RUNS = 12347
OFFSETS_FROM = 4  # containers from which a bitmap with runs has offsets too


def read_bitmap(cursor):
    """Ids of the bitmap at the cursor, rising. Raises `Damage` on anything that is not in the format's one form."""
    start = cursor.at
    cookie = cursor.u32()
    if cookie == NO_RUNS:
        containers, run_flags = cursor.u32(), b""
    elif cookie & 0xFFFF == WITH_RUNS:
        containers = (cookie >> 16) + 1
        run_flags = cursor.take((containers + 7) // 8)
    else:
        cursor.refuse(f"bitmap cookie {cookie:#x}")
    if containers > 1 << 16:
        cursor.refuse(f"{containers} containers")
    heads = [(cursor.u16(), cursor.u16() + 1) for _ in range(containers)]
    keys = [key for key, _ in heads]
    if keys != sorted(set(keys)):
        cursor.refuse("keys of containers do not rise")
    offsets = None
    if not run_flags or containers >= OFFSETS_FROM:
        offsets = [cursor.u32() for _ in range(containers)]
    ids = []
    for index, (key, cardinality) in enumerate(heads):
        if offsets is not None and offsets[index] != cursor.at - start:
            cursor.refuse(f"container {index} stands elsewhere than its offset says")
        if run_flags and run_flags[index // 8] >> (index % 8) & 1:
            low = _runs(cursor)
        elif cardinality > 4096:
            bits = cursor.take(8192)
            low = [8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1]
        else:
            low = [cursor.u16() for _ in range(cardinality)]
        if len(low) != cardinality or any(a >= b for a, b in zip(low, low[1:])) or (low and low[-1] > 0xFFFF):
            raise Damage(f"{cursor.part}: container {index} does not hold {cardinality} rising values")
        ids.extend(key << 16 | value for value in low)
    return ids


def _runs(cursor):
    values = []
    for _ in range(cursor.u16()):
        first, more = cursor.u16(), cursor.u16()
        values.extend(range(first, first + more + 1))
        if len(values) > 1 << 16:
            cursor.refuse("runs of more than a container holds")
    return values
