"""How large an Arrow IPC stream says that it is when it is unpacked, read from its metadata before Arrow unpacks it.

The metadata are flatbuffers (Arrow columnar format, "Serialization and Interprocess Communication"): of a message the
version and the record batch in it, of that the compression and the buffers. A compressed buffer begins with its size.
"""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pyarrow.ipc

MOST_BYTES = 1 << 26
"""A compressed message may have so many bytes when it is unpacked."""

_VERSION_5 = 4
_DICTIONARY, _RECORDS = 2, 3
_NUMBER, _SHORT, _OFFSET, _SIZE = (struct.Struct(form) for form in ("<I", "<H", "<i", "<q"))
_BUFFER, _MESSAGE = struct.Struct("<qq"), struct.Struct("<5H")


class NotCurrent(Exception):
    """Metadata that are older than Arrow 1.0, or that contradict themselves."""


def claimed_bytes(message: bytes) -> int:
    """Bytes that the compressed buffers of a stream say to have unpacked, 0 if there are none.

    Raises NotCurrent, and what pyarrow raises for bytes that are no stream.
    """
    reader = pa.ipc.MessageReader.open_stream(message)
    total = 0
    try:
        while True:
            part = reader.read_next_message()
            total += _claimed(part.metadata.to_pybytes(), part.body)
    except StopIteration:
        return total
    except (struct.error, IndexError) as error:
        raise NotCurrent("its metadata point outside of themselves") from error


def _claimed(data: bytes, body: Any) -> int:
    message = _NUMBER.unpack_from(data, 0)[0]
    size, _, version, kind, header = _MESSAGE.unpack_from(data, message - _OFFSET.unpack_from(data, message)[0])
    if size < _MESSAGE.size or not version or data[message + version] != _VERSION_5:
        raise NotCurrent("its metadata are older than version 5 (Arrow 1.0)")
    if not kind or data[message + kind] not in (_DICTIONARY, _RECORDS):
        return 0
    records = _follow(data, message + header)
    if data[message + kind] == _DICTIONARY:
        records = _follow(data, _field(data, records, 1))
    if not _field(data, records, 3):
        return 0
    vector = _follow(data, _field(data, records, 2))
    count = _NUMBER.unpack_from(data, vector)[0]
    packed = memoryview(body)
    sizes = (_BUFFER.unpack_from(data, vector + 4 + 16 * number) for number in range(count))
    return sum(max(0, _SIZE.unpack_from(packed, at)[0]) for at, length in sizes if length >= _SIZE.size)


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffers table is, 0 if it is not there."""
    entries = table - _OFFSET.unpack_from(data, table)[0]
    slot = 4 + 2 * number
    if entries < 0 or slot >= _SHORT.unpack_from(data, entries)[0]:
        return 0
    offset = _SHORT.unpack_from(data, entries + slot)[0]
    return table + offset if offset else 0


def _follow(data: bytes, field: int) -> int:
    """Where the table or vector is that a field points to."""
    return int(field + _NUMBER.unpack_from(data, field)[0])
