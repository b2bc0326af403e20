"""Makes a film that any browser plays, and that says in its picture where it is.

H.264 without a codec: every macroblock carries its samples as they are (I_PCM, ITU-T H.264 7.3.5),
every picture stands for itself, so that a player may begin anywhere. In an MP4 (ISO/IEC 14496-12)
whose index comes first. The picture has eight upright bars, dark or bright: the bits of the second
that it belongs to, the lowest on the left.
"""
import re
import struct

SIDE = 128  # pixels: eight macroblocks
BLOCKS = SIDE // 16
PICTURES_PER_SECOND = 5
DARK, BRIGHT, GREY = 40, 200, 128


class Bits:
    def __init__(self):
        self.text = ""

    def fixed(self, count, value):
        self.text += format(value, f"0{count}b")
        return self

    def golomb(self, *values):
        """ue(v); a signed 0 looks the same."""
        for value in values:
            digits = format(value + 1, "b")
            self.text += "0" * (len(digits) - 1) + digits
        return self

    def aligned(self):
        self.text += "0" * (-len(self.text) % 8)
        return bytes(int(self.text[at:at + 8], 2) for at in range(0, len(self.text), 8))


def unit(kind, payload):
    """A NAL unit: no start code may show inside."""
    return bytes([kind]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", payload)


SEQUENCE = unit(0x67, Bits().fixed(8, 66).fixed(8, 0xC0).fixed(8, 30).golomb(0, 0, 2, 0).fixed(1, 0)
                .golomb(BLOCKS - 1, BLOCKS - 1).fixed(1, 1).fixed(1, 1).fixed(2, 0)
                .fixed(1, 1).aligned())
PICTURE = unit(0x68, Bits().golomb(0, 0).fixed(2, 0).golomb(0, 0, 0).fixed(3, 0).golomb(0, 0, 0)
               .fixed(1, 1).fixed(2, 0).fixed(1, 1).aligned())


def picture(number):
    second = number // PICTURES_PER_SECOND
    head = (Bits().golomb(0, 7, 0).fixed(4, 0)  # an I slice; each picture is a new beginning
            .golomb(number % 2).fixed(2, 0).golomb(0, 1))  # no filter that would smooth the bars
    samples = [bytes([BRIGHT if second >> block & 1 else DARK]) * 256 + bytes([GREY]) * 128
               for block in range(BLOCKS)]
    pcm = Bits().golomb(25).aligned()  # mb_type I_PCM, on a byte boundary from the second on
    blocks = b"".join(pcm + each for each in samples) * BLOCKS
    payload = head.golomb(25).aligned() + blocks[len(pcm):] + b"\x80"
    return unit(0x65, payload)


def box(name, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def full_box(name, *parts, flags=0):
    return box(name, struct.pack(">I", flags), *parts)


def numbers(*values):
    return struct.pack(f">{len(values)}I", *values)


MATRIX = numbers(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def film(seconds):
    pictures = [picture(number) for number in range(seconds * PICTURES_PER_SECOND)]
    samples = [numbers(len(each)) + each for each in pictures]
    duration = seconds * 1000
    kind = box(b"ftyp", b"isom", numbers(512), b"isomavc1")
    decoder = box(b"avcC", b"\1\x42\xC0\x1E\xFF\xE1", struct.pack(">H", len(SEQUENCE)), SEQUENCE,
                  b"\1", struct.pack(">H", len(PICTURE)), PICTURE)
    entry = box(b"avc1", bytes(6), struct.pack(">H", 1), bytes(16), struct.pack(">HH", SIDE, SIDE),
                numbers(0x480000, 0x480000, 0), struct.pack(">H", 1), bytes(32),
                struct.pack(">Hh", 24, -1), decoder)

    def index(first_sample):
        table = box(
            b"stbl", full_box(b"stsd", numbers(1), entry),
            full_box(b"stts", numbers(1, len(samples), 1000 // PICTURES_PER_SECOND)),
            full_box(b"stsc", numbers(1, 1, len(samples), 1)),
            full_box(b"stsz", numbers(0, len(samples), *map(len, samples))),
            full_box(b"stco", numbers(1, first_sample)))
        media = box(
            b"mdia", full_box(b"mdhd", numbers(0, 0, 1000, duration, 0x55C40000)),
            full_box(b"hdlr", numbers(0), b"vide", bytes(12), b"film\0"),
            box(b"minf", full_box(b"vmhd", bytes(8), flags=1),
                box(b"dinf", full_box(b"dref", numbers(1), full_box(b"url ", flags=1))), table))
        track = box(b"trak", full_box(b"tkhd", numbers(0, 0, 1, 0, duration), bytes(16), MATRIX,
                                      numbers(SIDE << 16, SIDE << 16), flags=3), media)
        return box(b"moov", full_box(b"mvhd", numbers(0, 0, 1000, duration, 0x10000), b"\1\0",
                                     bytes(10), MATRIX, bytes(24), numbers(2)), track)

    first = len(kind) + len(index(0)) + 8
    return kind + index(first) + box(b"mdat", *samples)
