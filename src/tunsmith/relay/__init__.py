"""Between a flow of the stack and its upstream: back-pressure, half-close, idle timers."""
