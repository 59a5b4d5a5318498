"""For tests of tunsmith and of what you build on it: clock, network, devices."""
