"""Arrow tables as bytes, and back from bytes that nobody vouches for."""

import struct

import pyarrow as pa

_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3  # kinds of an Arrow message


def table_to_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow IPC stream without compression."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def table_from_bytes(data: bytes) -> pa.Table:
    """Read an Arrow IPC stream and check all of it.

    Args:
        data: bytes from anywhere.

    Returns:
        A table that is no larger than the bytes: its columns are views of them.

    Raises:
        pa.ArrowException, OSError: the bytes are not a valid stream.
        ValueError: the stream is compressed, or claims more rows than it has bits.
    """
    for message in pa.ipc.MessageReader.open_stream(data):
        if _is_compressed(message.metadata.to_pybytes()):
            raise ValueError("compressed Arrow data may claim any size")
    table = pa.ipc.open_stream(data).read_all()
    if table.num_rows > 8 * len(data):
        raise ValueError("the table claims more rows than it has bits")
    table.validate(full=True)
    return table


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message declares compression: a look into its flatbuffer, whose layout Arrow's Message.fbs fixes."""
    try:
        message = struct.unpack_from("<I", metadata, 0)[0]
        kind_at, header_at = _field(metadata, message, 1), _field(metadata, message, 2)
        kind = metadata[kind_at] if kind_at else 0
        if kind == _SCHEMA:
            return False
        batch = _reference(metadata, header_at)
        if kind == _DICTIONARY:
            batch = _reference(metadata, _field(metadata, batch, 1))
        elif kind != _RECORDS:
            raise ValueError("unexpected kind of Arrow message")
        return _field(metadata, batch, 3) != 0
    except (struct.error, IndexError) as error:
        raise ValueError("malformed Arrow message") from error


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffer table lies, 0 where it is absent."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if layout < 0 or 4 + 2 * number >= struct.unpack_from("<H", data, layout)[0]:
        return 0
    offset = struct.unpack_from("<H", data, layout + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _reference(data: bytes, position: int) -> int:
    """The table that the offset at a position points to."""
    return position + struct.unpack_from("<I", data, position)[0]
