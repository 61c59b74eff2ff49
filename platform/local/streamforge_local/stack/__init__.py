"""The embedded stack as one thing: its parts, the supervisor that keeps them running, the commands behind make."""
