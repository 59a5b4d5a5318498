"""Programs that load no library at run time, each from another world: nothing can be preloaded into them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.contenders import sing_box_program

MUSL_CLIENT = r"""
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(argv[1], "80", &hints, &found);
    if (error) {
        fprintf(stderr, "%s\n", gai_strerror(error));
        return 1;
    }
    int server = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(server, found->ai_addr, found->ai_addrlen)) {
        perror("connect");
        return 1;
    }
    dprintf(server, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", argv[1]);
    char text[4096];
    for (ssize_t size; (size = read(server, text, sizeof text)) > 0;)
        fwrite(text, 1, size, stdout);
    return 0;
}
"""


class StaticPrograms:
    """HTTP clients: busybox with glibc, one of our own with musl, and sing-box, which is Go."""

    def __init__(self, directory: Path) -> None:
        self._musl = directory / "musl-client"
        source = directory / "musl-client.c"
        source.write_text(MUSL_CLIENT)
        subprocess.run(["musl-gcc", "-static", "-o", str(self._musl), str(source)], check=True)
        self._config = directory / "sing-box.json"
        self._config.write_text("{}")

    def fetch(self, program: str, host: str) -> list[str]:
        """The command line that prints the page of `host`."""
        if program == "glibc":
            return ["busybox", "wget", "-q", "-O-", f"http://{host}/"]
        if program == "musl":
            return [str(self._musl), host.strip("[]")]
        return [str(sing_box_program()), "tools", "fetch", "-c", str(self._config), f"http://{host}/"]
