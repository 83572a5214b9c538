"""Forward hooks: points in a module, taps on them, and the reduction of equivariant columns."""
