"""Several engines for one TUN: a process for each queue, and the one that keeps them."""
