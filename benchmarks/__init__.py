"""Figures of StreamForge, each beside its floor, made in the same run: ``python -m benchmarks`` prints one table."""
