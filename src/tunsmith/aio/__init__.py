"""The stack as asyncio knows networks: connections, servers, datagrams and pings, on a device instead of sockets."""
