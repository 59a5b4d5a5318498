"""TUN networking in pure Python: a user-space TCP/IP stack, a proxy, a private network."""

__version__ = "0.1.0"
