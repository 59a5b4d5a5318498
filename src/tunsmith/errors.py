"""Every error tunsmith raises on purpose.

    TunsmithError
    ├── UsageError            the user asked for something impossible; exit code 2, nothing changed
    │   └── WrongConfig       a file with several faults
    ├── DeviceError           the TUN device cannot be opened or has gone
    ├── HostError             this machine forbids or lacks something (namespaces, a sysctl)
    ├── WireError             bytes that do not follow their format; carries a `reason` to count by
    ├── LocalError            the caller misused the stack; carries an errno
    └── DialError             an upstream connection was not made
        ├── DialRefused       the destination answered RST
        ├── DialUnreachable   no route, or the host or network is unreachable (`reach` says which)
        ├── DialTimeout       nobody answered in time
        ├── DialProhibited    a policy (ours, the proxy's, the kernel's) forbids it
        ├── DialUnsupported   the upstream cannot carry this kind of traffic
        └── ProxyError        the proxy itself failed or answered nonsense
            ├── ProxyAuthFailed
            └── ProxySilent

Messages are one line: what is wrong, where, what to do.
"""

from __future__ import annotations

from enum import Enum


class TunsmithError(Exception):
    """Base of all errors raised on purpose."""


class UsageError(TunsmithError):
    """The request itself is wrong; the command exits with 2 and has changed nothing."""


class WrongConfig(UsageError):
    """What is wrong in a configuration file, a line each, with its place, in `faults`."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class DeviceError(TunsmithError):
    """A network device could not be opened, configured or used any longer."""


class HostError(TunsmithError):
    """This machine does not allow or does not have what the command needs."""


class WireError(TunsmithError):
    """Malformed bytes from a peer. `reason` is a short fixed word to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class LocalError(TunsmithError):
    """The caller used the stack in a way its state does not allow. `errno` is the usual one."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class Reach(Enum):
    """How a destination is out of reach; chooses the ICMP code the application sees."""

    NETWORK = "network"
    HOST = "host"
    EXPIRED = "ttl expired"


class DialError(TunsmithError):
    """The upstream connection was not made."""


class DialRefused(DialError):
    """The destination refused: RST, or ICMP port unreachable."""


class DialUnreachable(DialError):
    """No way to the destination."""

    def __init__(self, message: str, reach: Reach = Reach.HOST) -> None:
        super().__init__(message)
        self.reach = reach


class DialTimeout(DialError):
    """Nobody answered in time."""


class DialProhibited(DialError):
    """A policy forbids this destination."""


class DialUnsupported(DialError):
    """This upstream cannot carry this kind of traffic (UDP over an HTTP proxy, say)."""


class ProxyError(DialError):
    """The proxy could not be used: down, hung up, or answered nonsense."""


class ProxyAuthFailed(ProxyError):
    """The proxy did not take our credentials."""


class ProxySilent(ProxyError):
    """The proxy did not answer in time, where it needed nobody else for its answer."""
