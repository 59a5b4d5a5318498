"""Whether what the stack sent is what a line expects, and in which words they differ."""

from __future__ import annotations

from collections.abc import Iterator

from tunsmith.testing.script.statements import IcmpLine, SegmentLine
from tunsmith.testing.script.wire import ECN_WORDS, PORTS, Seen, Wire, flag_names, text, word_of
from tunsmith.wire.tcp import ACK, PSH, TcpOptions


def differences(line: SegmentLine | IcmpLine, seen: Seen, wire: Wire) -> list[str]:
    """In what `seen` is not what `line` expects; empty where it is."""
    if isinstance(line, IcmpLine):
        came = "no ICMP error" if seen.icmp is None else word_of(seen.icmp)
        return [] if came == line.error else [f"{came}, not {line.error}"]
    if seen.icmp is not None:
        return ["an ICMP error, not a segment"]
    return [*_header(line, seen), *_options(line, seen, wire)]


def _header(line: SegmentLine, seen: Seen) -> Iterator[str]:
    unnamed = 0 if line.flags & PSH else PSH
    if seen.flags & ~unnamed != line.flags:
        yield f"flags {flag_names(seen.flags)}, not {flag_names(line.flags)}"
    if seen.seq != line.seq:
        yield f"seq {seen.seq}, not {line.seq}"
    if len(seen.data) != line.length:
        yield f"{len(seen.data)} bytes of text, not {line.length}"
    elif seen.data != text(line.seq, line.length):
        yield "text other than what was sent"
    if line.ack is not None and (not seen.flags & ACK or seen.ack != line.ack):
        yield f"ack {seen.ack}, not {line.ack}"
    if line.window is not None and seen.window not in line.window:
        yield f"win {seen.window}, not {line.window}"
    if seen.urgent != (line.urgent or 0):
        yield f"urg {seen.urgent}, not {line.urgent or 0}"
    if seen.port != (line.port or PORTS[0]):
        yield f"port {seen.port}, not {line.port or PORTS[0]}"


def _options(line: SegmentLine, seen: Seen, wire: Wire) -> Iterator[str]:
    options = seen.options or TcpOptions()
    mss = wire.mss if line.mss == 0 else line.mss
    if mss is not None and options.mss != mss:
        yield f"mss {options.mss}, not {mss}"
    if line.ecn is not None and seen.ecn != line.ecn:
        yield f"{ECN_WORDS[seen.ecn]}, not {ECN_WORDS[line.ecn]}"
    if line.scale is not None and options.window_scale != line.scale:
        yield f"wscale {options.window_scale}, not {line.scale}"
    if line.sack_permitted and not options.sack_permitted:
        yield "no sackok"
    if line.stamp is not None:
        if seen.stamp is None:
            yield "no ts"
        else:
            for name, came, wanted in zip(("value", "echo"), seen.stamp, line.stamp, strict=True):
                if wanted is not None and came != wanted & 0xFFFFFFFF:
                    yield f"ts {name} {came}, not {wanted}"
    if seen.sack != line.sack:
        yield f"sack {_blocks(seen.sack)}, not {_blocks(line.sack)}"
    present = {
        "mss": options.mss is not None,
        "wscale": options.window_scale is not None,
        "sackok": options.sack_permitted,
        "ts": options.timestamp is not None,
        "sack": bool(options.sack),
        "ect": bool(seen.ecn),
    }
    for name in sorted(line.absent):
        if present[name]:
            yield f"{name}, which should be absent"


def _blocks(blocks: tuple[tuple[int, int], ...]) -> str:
    return " ".join(f"{left}:{right}" for left, right in blocks) or "none"
