"""A package of its own, as a requirement installs one of the same name."""
