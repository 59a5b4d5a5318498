"""Pure DNS: fake addresses and the answers built from them."""
