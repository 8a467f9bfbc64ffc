"""A second reader of wattlog stores, written from format-spec.md alone.

It shares no line and no idea with the engine but the text of the specification. Where the two disagree about a store,
one of the three is wrong: the engine, this reader, or the text.

Modules, from the bytes up: `binary` (integers, checksums, the common header), `zstd`, `roaring`, `blocks` (section 6),
`sums` and `statistics` (5.11, 9), `segment` and `segment_check` (5), `wal` (4), `manifest` and `catalog` (7), `store`
(8.3, 9: what a folder means) and `points` (the answer as text).
"""
