"""Statistics that stream: what errors need of any number of atoms, in memory that does not grow with them."""
