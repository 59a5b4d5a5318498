"""What the program sees of the machine's name service: our resolver and nothing else.

Programs resolve names along more ways than port 53. glibc asks nscd on a unix socket before it looks
at anything else; nss-resolve asks systemd-resolved over varlink or D-Bus; nss-mdns asks avahi. Those
daemons live in the caller's network, so a question to them escapes. Hence, in the private mount
namespace: resolv.conf and nsswitch.conf are ours, and the directories of those sockets hold no sockets.
The directories are replaced rather than the sockets, because a daemon that restarts makes a new one.
(Sockets in the abstract name space are out of reach anyway: it is per network namespace.)

Everything lives in one tmpfs that no path leads to once the mounts are made; it ends with the last
process of the namespace. So nothing is ever written to disk.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from tunsmith.errors import HostError
from tunsmith.host.syscalls import MS_BIND, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, detach, mount

RESOLV_CONF = "/etc/resolv.conf"
NSSWITCH_CONF = "/etc/nsswitch.conf"
SOCKET_DIRECTORIES = (
    "/run/nscd",
    "/run/systemd/resolve",
    "/run/dbus",
    "/run/avahi-daemon",
    "/var/run/nscd",
    "/var/run/dbus",
    "/var/run/avahi-daemon",
)
SSH_INCLUDES = "/etc/ssh/ssh_config.d"

_STAGES = ("/tmp", "/mnt", "/media", "/srv", "/opt")


def hide_name_service(resolv_conf: str) -> None:
    """Put the private files in place and the sockets out of sight; to be called in a mount namespace
    that may be changed. `resolv_conf` is the content of the file. Raises OSError or HostError."""
    try:
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
    except PermissionError as error:
        raise HostError(
            "mounts are forbidden here, even in a mount namespace of one's own: "
            "a container needs `--security-opt apparmor=unconfined`"
        ) from error
    stage = _stage()
    mount("tunsmith", stage, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    try:
        _replace_socket_directories(stage)
        _replace_resolv_conf(stage, resolv_conf)
        _replace_nsswitch_conf(stage)
        _own_ssh_includes(stage)
    finally:
        detach(stage)


def only_files_and_dns(nsswitch_conf: str) -> str:
    """`nsswitch_conf` with hosts looked up in files and by DNS only; its other lines are kept."""
    return re.sub(r"(?m)^\s*hosts\s*:.*$", "hosts: files dns", nsswitch_conf)


def read_regular_file(path: str) -> str:
    """The text of `path`. Raises OSError, also where it is a directory, a device or a pipe: those are looked at
    but not opened, for that could wait for ever or have effects."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _stage() -> str:
    """A directory that can be covered for a moment: none of the paths to replace may lie under it."""
    targets = [
        os.path.realpath(path) for path in (RESOLV_CONF, NSSWITCH_CONF, SSH_INCLUDES, *SOCKET_DIRECTORIES)
    ]
    for stage in _STAGES:
        if os.path.isdir(stage) and not any(target.startswith(stage + "/") for target in targets):
            return stage
    raise HostError(f"none of the directories {' '.join(_STAGES)} exists to prepare the private files in")


def _replace_socket_directories(stage: str) -> None:
    done = set()
    for path in SOCKET_DIRECTORIES:
        real = os.path.realpath(path)
        if real in done or not os.path.isdir(real):
            continue
        done.add(real)
        mount(_copy_of_files(real, stage, f"sockets-{len(done)}"), real, flags=MS_BIND)


def _replace_resolv_conf(stage: str, content: str) -> None:
    """Also where the file is missing or a link to nowhere: then a read-only overlay adds it to /etc."""
    if os.path.isfile(RESOLV_CONF):
        _cover(RESOLV_CONF, _file(stage, "resolv.conf", content))
        return
    layer = _directory(stage, "etc")
    _file(layer, "resolv.conf", content)
    try:
        mount("tunsmith", "/etc", "overlay", MS_NOSUID | MS_NODEV, f"lowerdir={layer}:/etc,userxattr")
    except OSError as error:
        raise HostError(
            f"{RESOLV_CONF} is missing and cannot be overlaid ({error.strerror}): create it, empty will do"
        ) from error


def _replace_nsswitch_conf(stage: str) -> None:
    try:
        content = read_regular_file(NSSWITCH_CONF)
    except OSError:  # without the file, glibc's own default is files and dns
        return
    _cover(NSSWITCH_CONF, _file(stage, "nsswitch.conf", only_files_and_dns(content)))


def _own_ssh_includes(stage: str) -> None:
    """Where only the caller's id is mapped, root's files seem to belong to nobody, and ssh refuses every
    included file that belongs neither to root nor to the caller ("Bad owner or permissions"): show it
    copies of the caller's."""
    try:
        owners = {entry.stat().st_uid for entry in os.scandir(SSH_INCLUDES)}
    except OSError:
        return
    if owners <= {0, os.getuid()}:
        return
    mount(_copy_of_files(SSH_INCLUDES, stage, "ssh-includes"), SSH_INCLUDES, flags=MS_BIND)


def _copy_of_files(directory: str, stage: str, name: str) -> str:
    """A new directory on `stage` with the readable regular files of `directory` and nothing else."""
    copy = _directory(stage, name)
    for entry in os.listdir(directory):
        path = os.path.join(directory, entry)
        try:
            content = read_regular_file(path)
        except OSError:
            continue
        _file(copy, entry, content)
    return copy


def _directory(parent: str, name: str) -> str:
    path = os.path.join(parent, name)
    os.mkdir(path)
    os.chmod(path, 0o755)  # whatever the caller's umask
    return path


def _file(directory: str, name: str, content: str) -> str:
    path = os.path.join(directory, name)
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
    os.chmod(path, 0o644)
    return path


def _cover(path: str, by: str) -> None:
    mount(by, path, flags=MS_BIND)
