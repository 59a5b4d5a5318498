"""A TCP/IP host without I/O: packets and time in, packets, events and deadlines out."""
