"""TUN networking in pure Python: a user-space TCP/IP stack, a proxy, a private network."""

from __future__ import annotations

TYPE_CHECKING = False
"""As in `typing`, which takes longer to import than all else here."""

if TYPE_CHECKING:
    from tunsmith.aio.stack import Stack as Stack
    from tunsmith.aio.statistics import ConnectionStatistics as ConnectionStatistics
    from tunsmith.device.memory import MemoryDevice as MemoryDevice
    from tunsmith.device.object import ObjectDevice as ObjectDevice
    from tunsmith.device.packets import PacketDevice as PacketDevice
    from tunsmith.device.pcap import Capture as Capture
    from tunsmith.device.pcap import PcapDevice as PcapDevice
    from tunsmith.device.stream import StreamDevice as StreamDevice
    from tunsmith.host.tun import adopt as adopt
    from tunsmith.host.tun import open_tap as open_tap
    from tunsmith.host.tun import open_tun as open_tun
    from tunsmith.stack.config import StackConfig as StackConfig
    from tunsmith.stack.nic import Nic as Nic
    from tunsmith.wire.icmp import IcmpError as IcmpError

__version__ = "0.1.0"

_WHERE = {
    "Capture": "device.pcap",
    "ConnectionStatistics": "aio.statistics",
    "IcmpError": "wire.icmp",
    "MemoryDevice": "device.memory",
    "Nic": "stack.nic",
    "ObjectDevice": "device.object",
    "PacketDevice": "device.packets",
    "PcapDevice": "device.pcap",
    "Stack": "aio.stack",
    "StackConfig": "stack.config",
    "StreamDevice": "device.stream",
    "adopt": "host.tun",
    "open_tap": "host.tun",
    "open_tun": "host.tun",
}
"""Names that are imported when they are first used, so that `import tunsmith` costs nothing."""


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'tunsmith' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"tunsmith.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
