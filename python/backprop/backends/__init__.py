"""Which backend computes, what every backend offers, and losses of the user's own on any of them."""
