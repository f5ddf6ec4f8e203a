"""A resumed training that is bit-equal to one that was not interrupted."""
