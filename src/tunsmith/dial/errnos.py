"""What the kernel's error numbers mean for a dial.

The kernel has already turned RSTs and ICMP errors into errnos (`icmp_err_convert` in net/ipv4/icmp.c,
`tab_unreach` in net/ipv6/icmp.c); the error tree turns them back into what the application's own
kernel must be told, so the application ends up with the very errno it would have had without us.
"""

from __future__ import annotations

import errno
import os

from tunsmith.errors import DialError, DialProhibited, DialRefused, DialTimeout, DialUnreachable, Reach

_REFUSED = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOPROTOOPT})
_NETWORK = frozenset(
    # EAFNOSUPPORT: no IPv6 on this machine. EINVAL: a link-local address without a link to use it on.
    {errno.ENETUNREACH, errno.ENETDOWN, errno.ENONET, errno.EAFNOSUPPORT, errno.EINVAL, errno.ENODEV}
)
_HOST = frozenset({errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.EOPNOTSUPP})
_PROHIBITED = frozenset({errno.EACCES, errno.EPERM})
_NO_SOURCE = frozenset({errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.EAGAIN})
"""All local ports taken, or no address of that family that could be the source."""
CONGESTED = frozenset({errno.ENOBUFS, errno.ENOMEM})
"""A queue of this machine is full: a datagram is lost, as on any busy link, and no destination is to blame. With
IP_RECVERR set, Linux says so (udp_send_skb)."""
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


def dial_error(code: int, where: object) -> DialError:
    """The error for `code`, met on the way to `where` (printed; a target or "the proxy at ...")."""
    if code in _REFUSED:
        return DialRefused(f"{where}: connection refused")
    if code in _HOST:
        return DialUnreachable(f"{where}: host unreachable", Reach.HOST)
    if code in _NETWORK:
        return DialUnreachable(f"{where}: network unreachable ({os.strerror(code)})", Reach.NETWORK)
    if code == errno.ETIMEDOUT:
        return DialTimeout(f"{where}: no answer")
    if code in _PROHIBITED:
        return DialProhibited(f"{where}: forbidden by this machine ({os.strerror(code)})")
    if code in _NO_DESCRIPTOR:
        import resource  # not everywhere

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return DialError(
            f"{where}: out of file descriptors (the limit is {limit}); raise it with `ulimit -n`"
        )
    if code in _NO_SOURCE:
        return DialUnreachable(
            f"{where}: no local address or port to go from; see net.ipv4.ip_local_port_range", Reach.NETWORK
        )
    return DialError(f"{where}: {os.strerror(code)}")
