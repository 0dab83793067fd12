"""Ways out of the library: what other programs can run, made from models; nothing here constructs a `Network`."""

__all__: list[str] = []
