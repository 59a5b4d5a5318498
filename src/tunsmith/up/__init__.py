"""`tunsmith up`: a machine's traffic through a TUN, from the first look at the machine to its being as it was."""
