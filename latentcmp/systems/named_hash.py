"""Numbers in [0, 1) from names, the same on every machine."""

from hashlib import blake2b


def hashed_uniform(name: str, seed: int) -> float:
    """Return a number in [0, 1) from the BLAKE2b hash of a name, keyed with the seed."""
    key = blake2b(name.encode(errors="surrogateescape"), key=str(seed).encode(), digest_size=8)
    return int.from_bytes(key.digest(), "big") / 2**64
