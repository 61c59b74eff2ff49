"""The queue-manager: takes workflows over HTTP, makes them true with Jobs, tells what became of them."""
