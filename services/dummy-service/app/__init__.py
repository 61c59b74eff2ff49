"""The handbook's ``python3.11 -m app.main``; the code is in ``dummy_service``."""
