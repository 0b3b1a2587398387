"""H.264 of separate fields, which no encoder at hand writes: each field is a packet, and two of them are one picture.

Pictures are written without compression (macroblocks of type I_PCM; ITU-T H.264, clauses 7.3.2, 7.3.3 and 7.3.5).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from barcode_videos import FPS, HEIGHT, WIDTH, barcode


class _Bits:
    def __init__(self) -> None:
        self.text = ""

    def put(self, value: int, count: int) -> None:
        self.text += format(value, f"0{count}b")

    def golomb(self, value: int) -> None:
        self.put(value + 1, 2 * (value + 1).bit_length() - 1)

    def align(self, bit: str) -> None:
        self.text += bit * (-len(self.text) % 8)

    def unit(self, head: int) -> bytes:
        self.text += "1"
        self.align("0")
        data = int(self.text, 2).to_bytes(len(self.text) // 8, "big")
        escaped, zeros = bytearray(), 0
        for byte in data:
            if zeros >= 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([head]) + bytes(escaped)


def parameter_sets() -> bytes:
    sequence = _Bits()
    for value, count in ((77, 8), (0, 8), (30, 8)):  # profile, constraints, level
        sequence.put(value, count)
    for value in (0, 0, 2, 1):  # id, log2_max_frame_num - 4, pic_order_cnt_type, max_num_ref_frames
        sequence.golomb(value)
    sequence.put(0, 1)
    sequence.golomb(WIDTH // 16 - 1)
    sequence.golomb(HEIGHT // 32 - 1)
    for bit in (0, 0, 1, 0, 0):  # frame_mbs_only, adaptive fields, direct_8x8, cropping, vui
        sequence.put(bit, 1)
    picture = _Bits()
    picture.golomb(0)
    picture.golomb(0)
    picture.put(0, 2)  # CAVLC; no order of fields
    for value in (0, 0, 0):
        picture.golomb(value)
    picture.put(0, 3)
    for _ in range(3):  # qp, qs, chroma offset: signed codes of 0
        picture.golomb(0)
    picture.put(0, 3)
    return sequence.unit(0x67) + picture.unit(0x68)


def field(rgb: np.ndarray, number: int, is_bottom: bool) -> bytes:
    """One field of a picture as a slice; ``number`` is that of the picture."""
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    planes = frame.to_ndarray()
    luma = planes[:HEIGHT][is_bottom::2]
    chroma = planes[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)[:, is_bottom::2]
    is_refresh = number == 0 and not is_bottom
    bits = _Bits()
    for value in (0, 7, 0):  # first_mb_in_slice, slice_type I, parameter set
        bits.golomb(value)
    bits.put(number % 16, 4)  # frame_num
    bits.put(1, 1)
    bits.put(int(is_bottom), 1)
    if is_refresh:
        bits.golomb(0)  # idr_pic_id
        bits.put(0, 2)
    else:
        bits.put(0, 1)  # sliding window
    bits.golomb(0)  # slice_qp_delta
    for row in range(HEIGHT // 32):
        for column in range(WIDTH // 16):
            bits.golomb(25)  # I_PCM
            bits.align("0")
            block = luma[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            colour = chroma[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            for samples in (block, colour):
                bits.text += "".join(format(max(1, int(sample)), "08b") for sample in samples.flatten())
    return bits.unit(0x65 if is_refresh else 0x61)


def write_fields(path: Path, frames: int) -> Path:
    """Barcodes 0, 1, 2, ... as pairs of fields, each a packet; the second of a pair has no presentation time."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        output.start_encoding()
        for number in range(frames):
            for is_bottom in (False, True):
                data = (b"" if is_bottom else parameter_sets()) + field(barcode(number), number, is_bottom)
                packet = av.Packet(b"\0\0\0\1\x09\xf0" + data)
                packet.time_base, packet.stream = Fraction(1, 2 * FPS), stream
                packet.dts = packet.pts = 2 * number + is_bottom
                packet.is_keyframe = number == 0 and not is_bottom
                output.mux(packet)
    return path
