"""The child's half of a sandbox: from fork(2) to exec(2), every step before the program starts.

The child makes its namespaces, waits for its ids, gives the network namespace a loopback, a TUN and
default routes through it, hides the machine's name service, hands the TUN to the parent, waits for
the word to go, and becomes the program. It never returns. Whatever fails travels to the parent as one
line; whatever happens to the parent, the child goes too: it is told by the kernel
(PR_SET_PDEATHSIG) and by the end of the control socket, until it becomes the program.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
from typing import NoReturn

from tunsmith.config import Network
from tunsmith.errors import DeviceError, HostError
from tunsmith.host.resolvfiles import hide_name_service
from tunsmith.host.rtnetlink import RtNetlink
from tunsmith.host.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    execvp,
    set_parent_death_signal,
    unshare,
)
from tunsmith.host.sysctl import try_sysctl
from tunsmith.host.tun import open_tun

TUN_NAME = "tun0"
UNSHARED, READY, REFUSED, FAILED = b"U", b"R", b"N", b"F"
"""First byte of a message from the child: the ids can be mapped; here is the TUN, then its offload flags;
the errno of a namespace that was refused, for the parent to explain; a line that says what went wrong."""
MAPPED, GO = b"M", b"G"
"""Messages to the child: the ids are mapped; become the program."""

NUMBER = struct.Struct("=I")
"""How a message carries a number."""

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit codes of a program that could not be started, as every shell has them."""
INTERRUPTED_SETUP = 125


class _NamespaceRefused(OSError):
    """By a limit that the parent can read and the child, once in a user namespace of its own, cannot."""


class _ParentGone(Exception):
    """The control socket ended before the program was started."""


def run_child(
    control: socket.socket, parent: int, command: list[str], network: Network, resolv_conf: str
) -> NoReturn:
    """Be the child: all of the above. `control` is its end of a SOCK_SEQPACKET pair, `parent` the
    process id that must still be there."""
    status = INTERRUPTED_SETUP
    try:
        _follow_the_fate_of(parent)
        _prepare(control, network, resolv_conf)
        _expect(control, GO)
        status = _become(command)
    except _ParentGone:
        pass
    except _NamespaceRefused as error:
        _report(control, REFUSED + NUMBER.pack(error.errno))
    except (HostError, DeviceError) as error:
        _report(control, FAILED + str(error).encode("utf-8", "replace"))
    except Exception as error:
        _report(control, FAILED + f"cannot set up the namespace: {error}".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _follow_the_fate_of(parent: int) -> None:
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        raise _ParentGone
    # What our parent does then is not for us to do; an ignored signal stays ignored (nohup).
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _prepare(control: socket.socket, network: Network, resolv_conf: str) -> None:
    try:
        unshare(CLONE_NEWUSER)
        control.send(UNSHARED)
        _expect(control, MAPPED)
        unshare(CLONE_NEWNET | CLONE_NEWNS)
    except OSError as error:
        raise _NamespaceRefused(error.errno, error.strerror) from error
    tun = open_tun(TUN_NAME)
    _configure(network)
    hide_name_service(resolv_conf)
    socket.send_fds(control, [READY + NUMBER.pack(tun.offload)], [tun.fileno()])
    tun.close()


def _configure(network: Network) -> None:
    """Addresses, routes and the sysctls an unprivileged program wants; IPv6 where the kernel has it."""
    try_sysctl("net/ipv4/ping_group_range", f"{os.getgid()} {os.getgid()}")
    try_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
    # This wire is memory: there is no bandwidth to find out, and the pacing of BBR, where that is the default,
    # leaves it idle for a third of the time. Reno paces nothing and is there in every kernel.
    try_sysctl("net/ipv4/tcp_congestion_control", "reno")
    # No link-local address: nothing on this link would answer its router and listener messages.
    try_sysctl(f"net/ipv6/conf/{TUN_NAME}/addr_gen_mode", "1")
    tun = socket.if_nametoindex(TUN_NAME)
    with RtNetlink() as netlink:
        netlink.link_up(socket.if_nametoindex("lo"))
        netlink.link_up(tun, network.mtu)
        netlink.address_add(tun, network.inside)
        netlink.default_route_add(tun, socket.AF_INET)
        try:
            netlink.address_add(tun, network.inside6)
            netlink.default_route_add(tun, socket.AF_INET6)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES):
                raise


def _become(command: list[str]) -> int:
    # From here on the process is the user's: it may outlive us. Python ignores these two signals.
    set_parent_death_signal(0)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    _give_back_the_locale()
    error = execvp(command)
    exists = _exists(command[0])
    reason = error.strerror if exists else "command not found"
    _say(f"tunsmith: {command[0] or repr('')}: {reason}\n")
    return NOT_FOUND if error.errno == errno.ENOENT or not exists else NOT_EXECUTABLE


def _give_back_the_locale() -> None:
    """Python that is started in the C locale sets LC_CTYPE for all its children (PEP 538); the caller did not."""
    if b"LC_CTYPE" not in os.environb:
        return
    try:
        with open("/proc/self/environ", "rb") as file:  # what this process was started with
            given = file.read().split(b"\0")
    except OSError:
        return
    values = [entry.removeprefix(b"LC_CTYPE=") for entry in given if entry.startswith(b"LC_CTYPE=")]
    if values:
        os.environb[b"LC_CTYPE"] = values[0]
    else:
        del os.environb[b"LC_CTYPE"]


def _say(line: str) -> None:
    try:
        os.write(2, os.fsencode(line))
    except OSError:  # standard error is closed or nobody reads it
        pass


def _exists(program: str) -> bool:
    """Whether there is such a file at all: execvp says EACCES, too, where one directory of PATH is closed."""
    places = [""] if "/" in program else os.get_exec_path()
    return program != "" and any(os.path.exists(os.path.join(place, program)) for place in places)


def _expect(control: socket.socket, word: bytes) -> None:
    if control.recv(1) != word:
        raise _ParentGone


def _report(control: socket.socket, message: bytes) -> None:
    try:
        control.send(message)
    except OSError:
        pass
